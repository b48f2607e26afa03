"""Settings: what there is, what each may be, and the one order in which they count.

Highest first: command line, environment (`ROOST_*`, nested with `__`), the project's
`roost.toml` (or `[tool.roost]` in `pyproject.toml`), the user's `roost/config.toml`,
defaults. Every error names the option, variable or file that it is about.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from roost import places
from roost.errors import SettingsError
from roost.layers import Layer, layers_of, merge, shown, sources
from roost.names import Lane
from roost.rules import RuleName, Schedule, Trigger

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

CLOCK_OFFSET_MAX = 50 * 366 * 86400.0  # all clocks and calendars on the way hold that
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?"
)


def parse_duration(value: object) -> object:
    """Seconds of a text such as `30`, `1.5s`, `5m` or `1h30m`; anything else as it is."""
    if not isinstance(value, str) or not value.strip():
        return value
    match = _DURATION.fullmatch(value.strip().replace(" ", ""))
    if match is None:
        raise ValueError("not a duration such as 30s, 5m or 1h30m")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _split(value: object) -> object:
    """A text with commas as a list; anything else as it is."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _highest_first(lanes: tuple[Lane, ...]) -> tuple[Lane, ...]:
    return tuple(lane for lane in Lane if lane in lanes)


Seconds = Annotated[float, BeforeValidator(parse_duration)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_split)]
Lanes = Annotated[
    tuple[Lane, ...], BeforeValidator(_split), AfterValidator(_highest_first), Field(min_length=1)
]


class _Table(BaseModel, extra="forbid", defer_build=True, regex_engine="python-re"):
    """A table of the settings: checked as a part of `Settings`, and so without a validator of its own.

    Patterns are Python's, which end in `\\Z`: its `$` leaves room for a line's end. pydantic's own engine
    for patterns would be 450 kB of each worker.
    """


def _table() -> Any:
    """The default of a table: `Settings` checks an empty one. To call its class would build a validator."""
    return Field(default_factory=dict)


class WorkerSettings(_Table):
    """`[worker]`: how workers behave.

    Attributes:
        engines: `all` that are installed, or names and `module:attribute`, with commas.
        lanes: of which it takes work, of `high`, `normal` and `low`; others are left to other workers.
        concurrency: work items at a time.
        burst_steps: a lease is handed on after so many steps,
        burst_seconds: or so long, so that others get their turn.
        sweep_seconds: how often due work is looked for; None: what suits the storage.
        grace_seconds: how long a running step may go on after SIGTERM.
        health_port: on which probes are answered; 0 is any free port, None is none.
        metrics_port: on which Prometheus' metrics are served; 0 is any free port, None is none.
        health_host: where both are listened on; `0.0.0.0` for a supervisor on another address.
    """

    engines: str = "all"
    lanes: Lanes = tuple(Lane)
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 8
    burst_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    burst_seconds: Annotated[Seconds, Field(gt=0, le=86400)] = 20.0
    sweep_seconds: Annotated[Seconds, Field(ge=0.05, le=3600)] | None = None
    grace_seconds: Annotated[Seconds, Field(ge=0, le=43200)] = 20.0
    health_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    health_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None


class ObserveSettings(_Table):
    """`[observe]`: traces and metrics; `roost.observe.names` lists all there are.

    Attributes:
        otel: traces and metrics go to OpenTelemetry, whose own variables (`OTEL_*`) say where.
        gen_ai: attributes and metrics of OpenTelemetry's conventions for generative AI are there, too.
        emf: functions on Lambda write metrics into their logs, for CloudWatch.
        count_seconds: how often a worker that has metrics counts the work items of each state and lane;
            0: never. None: every 30 s, but never on `aws`, where it reads an index.
    """

    otel: bool = False
    gen_ai: bool = False
    emf: bool = False
    count_seconds: Annotated[Seconds, Field(ge=0, le=86400)] | None = None


class AwsSettings(_Table):
    """`[aws]`: which stack, for storage `aws`. Where AWS itself is, the SDK's settings say.

    Attributes:
        stack: prefix of the names of tables and queues.
        bucket: for artifacts; None: `STACK-ACCOUNT-REGION`.
        shards: over how many keys the hot partitions of the index are spread; may be
            raised, never lowered.
        appends_in_flight: journal appends that are under way at a time before further ones
            share a call.
    """

    stack: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}\Z")] = "roost"
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")] | None = None
    shards: Annotated[int, Field(ge=1, le=64)] = 4
    appends_in_flight: Annotated[int, Field(ge=1, le=256)] = 4


class ApprovalSettings(_Table):
    """`[approvals]`: tokens with which people answer what an engine asks.

    Attributes:
        signing_secret: at least 16 characters, the same for all workers, clients and consoles.
        old_signing_secret: tokens that it signed stay good, while the secret is changed.
        url: what a token is put behind to be a link, such as `https://roost.example.com/approve/`.
    """

    signing_secret: Annotated[SecretStr, Field(min_length=16)] | None = None
    old_signing_secret: Annotated[SecretStr, Field(min_length=16)] | None = None
    url: str = ""


class ConsoleSettings(_Table):
    """`[console]`: the operator's console.

    Attributes:
        host, port: where `roost ui` listens. Any host but this machine's own needs `auth`.
        auth: who may come in. `none`: whoever can reach a loopback address. `token`: who has
            one of the three tokens. `headers`: whom a proxy in front names in `user_header` and
            `role_header`. `gateway`: whom API Gateway's authorizer names in the claims
            `user_claim` and `role_claim`, or who signed the request with AWS's keys.
        admin_token, operator_token, viewer_token: for `token`, at least 16 characters; where all are
            unset, `roost ui` makes up an admin's and prints a URL that works once.
        proxy_secret: for `headers`, what the proxy must send as `X-Roost-Proxy-Secret`.
        user_header, role_header: for `headers`, who it is, and the role.
        user_claim, role_claim: for `gateway`, the same.
        admin_roles, operator_roles: values of the role header or claim that make an admin or an
            operator; all others only look. Where requests are signed with AWS's keys: ARNs of roles
            (without a path, `arn:aws:iam::ACCOUNT:role/NAME`) and users.
        hosts: names under which the console may be asked for, besides `host`.
        redact: fields of payloads, snapshots and signals that are never shown:
            `password`, `customer.email`, `items.*.card`, or of one engine, `billing:iban`.
        label: shown in the top bar, such as `PROD`.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8319
    auth: Literal["none", "token", "headers", "gateway"] = "none"
    admin_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    operator_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    viewer_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    proxy_secret: Annotated[SecretStr, Field(min_length=16)] | None = None
    user_header: str = "x-forwarded-user"
    role_header: str = "x-forwarded-groups"
    user_claim: str = "sub"
    role_claim: str = "roost_role"
    admin_roles: Texts = ("admin",)
    operator_roles: Texts = ("operator",)
    hosts: Texts = ()
    redact: Texts = ()
    label: Annotated[str, Field(max_length=20)] = ""


class BudgetSettings(_Table):
    """`[budgets]`: what work may use up before it parks and asks.

    Attributes:
        daily: of each namespace in a day (UTC), by name: `steps`, `attempts`, `seconds`, and
            amounts that engines report with `spend`. `roost budget --day` sets others.
    """

    daily: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, max_length=20
    )


class WorkspaceSettings(_Table):
    """`[workspace]`: git working trees for work items whose engines ask for one.

    Attributes:
        root: the folder that they are in; None: `workspaces` in `home`.
        source: the repository that they come from, if the engine names none: an absolute
            path on this host, or a URL; empty: a new repository without files.
        ref: the branch, tag or commit that they start from.
        kind: `worktree` shares the repository on this host, `clone` copies it.
        remove: when a workspace goes: when its work is `done` (or cancelled), when it has
            `ended` however, or `never`. Once the work itself has expired, it goes in either
            case but the last.
        save: keep it as an artifact with each commit, and restore it on other hosts.
    """

    root: Path | None = None
    source: str = ""
    ref: str = "HEAD"
    kind: Literal["worktree", "clone"] = "worktree"
    remove: Literal["done", "ended", "never"] = "done"
    save: bool = False


class Settings(BaseSettings):
    """All settings. `load_settings` makes them.

    Attributes:
        storage: `local` (in `home`), `local:/path`, `aws`, `aws:STACK`, `memory`, or the URL of
            an installed backend.
        namespace: of the work that this program enqueues, lists and looks at; workers serve all.
        artifacts: another storage that keeps artifacts only; None: the same.
        actor: who is named in entries that commands append; by default the user's name.
        home: where `local` keeps its files.
        lease_seconds: how long a lease lasts without a heartbeat.
        retention_seconds: how long work is kept after it ended; 0: for ever.
        keep_versions: how many of the newest snapshots of a work item are kept, besides those
            that waited, spawned or finished, or that work went back to, and up to 15 that they
            are deltas of; 0: all.
        engines: keyword arguments of engine factories, by engine name.
        log_level: the least that is logged.
        log_format: `auto` is `console` on a terminal, JSON lines elsewhere.
        testing: allows the seams below; never set it in production.
        crash_at: a crash point, such as `after-append:3`.
        clock_offset_seconds: added to the wall clock.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="ROOST_",
        env_nested_delimiter="__",
        extra="forbid",
        case_sensitive=False,
        regex_engine="python-re",
    )

    storage: str = "local"
    namespace: Annotated[str, Field(pattern=r"^([a-z0-9-]{1,63})?\Z")] = ""
    artifacts: str | None = None
    actor: Annotated[str, Field(max_length=200)] = ""
    home: Path = Field(default_factory=places.data)
    lease_seconds: Annotated[Seconds, Field(ge=0.2, le=43200)] = 30.0
    keep_versions: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    retention_seconds: Annotated[Seconds, Field(ge=0, allow_inf_nan=False)] = 30 * 86400.0
    worker: WorkerSettings = _table()
    aws: AwsSettings = _table()
    budgets: BudgetSettings = _table()
    approvals: ApprovalSettings = _table()
    console: ConsoleSettings = _table()
    workspace: WorkspaceSettings = _table()
    observe: ObserveSettings = _table()
    engines: dict[str, dict[str, Any]] = Field(default_factory=dict)
    triggers: dict[RuleName, Trigger] = Field(default_factory=dict)
    schedules: dict[RuleName, Schedule] = Field(default_factory=dict)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"
    testing: bool = False
    crash_at: str | None = None
    clock_offset_seconds: Annotated[
        float, Field(ge=-CLOCK_OFFSET_MAX, le=CLOCK_OFFSET_MAX, allow_inf_nan=False)
    ] = 0.0
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def sources(self) -> Mapping[str, str]:
        """Where each setting that is not a default comes from: `worker.concurrency` -> place."""
        return self._sources

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # the layers are merged below, so that each error can name its layer


_TABLES: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
_RULES: dict[str, type[BaseModel]] = {"triggers": Trigger, "schedules": Schedule}


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """Read the settings from everywhere.

    Args:
        overrides: from the command line, nested as in the file; None values don't count.
        config_file: read this file instead of looking for one.
        environ: instead of the process' environment.
        directory: where the search for a project file begins; by default the current one.

    Raises:
        SettingsError: a setting is unknown or wrong; names where it stands.
    """
    layers = layers_of(
        overrides or {}, os.environ if environ is None else environ, named=config_file, directory=directory
    )
    for layer in layers:
        _check_layer(layer)
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer.values)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise _explain(error, layers) from None
    _check_seams(settings)
    settings._sources = sources(layers)
    return settings


def _check_layer(layer: Layer) -> None:
    """Refuse keys that no setting has, with the nearest that one has; and values that pydantic
    would take for another kind of value."""
    for key, value in layer.values.items():
        if key not in Settings.model_fields:
            raise _unknown(layer, key, Settings.model_fields)
        _check_kind(layer, key, value, Settings.model_fields[key].annotation)
        if key in _TABLES:
            _check_table(layer, key, value, _TABLES[key])
        if key in _RULES and isinstance(value, Mapping):
            for name, rule in value.items():
                _check_table(layer, f"{key}.{name}", rule, _RULES[key])


def _check_table(layer: Layer, path: str, value: object, model: type[BaseModel]) -> None:
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        if key not in model.model_fields:
            raise _unknown(layer, f"{path}.{key}", [f"{path}.{name}" for name in model.model_fields])
        _check_kind(layer, f"{path}.{key}", inner, model.model_fields[key].annotation)


def _check_kind(layer: Layer, path: str, value: object, annotation: Any) -> None:
    """Refuse `true` for a number, where it would count as 1, and a number for `true`."""
    if get_origin(annotation) is dict:
        for name, inner in value.items() if isinstance(value, Mapping) else ():
            _check_kind(layer, f"{path}.{name}", inner, get_args(annotation)[1])
        return
    if not isinstance(value, bool | int | float):
        return
    kinds = _kinds(annotation)
    takes_numbers = int in kinds or float in kinds
    if isinstance(value, bool) and takes_numbers and bool not in kinds:
        words = "it should be a number"
    elif not isinstance(value, bool) and bool in kinds and not takes_numbers:
        words = "it should be true or false"
    else:
        return
    raise SettingsError(f"{layer.name}: {shown(layer, path)} is {_written(value)}: {words}")


def _kinds(annotation: Any) -> set[type]:
    """The types that a value of a setting may have."""
    if arguments := get_args(annotation):
        return {kind for argument in arguments for kind in _kinds(argument)}
    return {annotation} if isinstance(annotation, type) else set()


def _unknown(layer: Layer, key: str, valid: Iterable[str]) -> SettingsError:
    import difflib  # for a mistake only

    names = list(valid)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"Did you mean {shown(layer, near[0])}?" if near else f"Valid: {', '.join(sorted(names))}."
    return SettingsError(f"{layer.name}: there is no setting {shown(layer, key)}", hint=hint)


def _explain(error: ValidationError, layers: list[Layer]) -> SettingsError:
    """Say which layer the wrong value came from."""
    fault = error.errors(include_url=False)[0]
    parts = takewhile(lambda part: not isinstance(part, int), fault["loc"])  # of a list, all of it
    path = [str(part) for part in parts if part != "[key]"]
    for known in (path, path[:-1]):  # what is missing is named by the table that lacks it
        for layer in reversed(layers):
            value: Any = layer.values
            for part in known:
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None and known:
                name = shown(layer, ".".join(path))
                told = "not shown" if path[-1].endswith(("_token", "_secret")) else _written(value)
                told = told if known is path else "missing"
                return SettingsError(f"{layer.name}: {name} is {told}: {_in_words(fault)}")
    return SettingsError(f"setting {'.'.join(path)}: {_in_words(fault)}")


def _written(value: object) -> str:
    """A value as one writes it into the file."""
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def _in_words(fault: ErrorDetails) -> str:
    """What is wrong with a value, for who writes settings and not Python."""
    if fault["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return "it has settings of its own under it, and no value"
    if fault["type"] == "path_type":
        return "it should be the path of a folder, as text"
    if fault["type"] == "too_short":
        return f"it needs {fault['ctx']['min_length']} characters or more"
    return fault["msg"].removeprefix("Value error, ")


def _check_seams(settings: Settings) -> None:
    if settings.testing:
        return
    for name in ("crash_at", "clock_offset_seconds"):
        if getattr(settings, name):
            raise SettingsError(
                f"ROOST_{name.upper()} is set, which is for tests only",
                hint="Unset it, or set ROOST_TESTING=1 if this is a test.",
            )
