"""The reference, made of the code: commands, settings, Python, HTTP, journal, metrics and logs."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from pydantic import BaseModel, SecretStr

PYTHON = {
    "roost": "What engines are written with.",
    "roost.core.client": "What programs enqueue with, and look at work.",
    "roost.wiring": "How a program gets a client, or a worker of its own.",
    "roost.errors": "Every error, as a tree.",
    "roost.testing": "For the tests of engines: virtual time, crash safety, golden runs.",
    "roost.testing.contract": "For the tests of backends.",
    "roost.storage.ports": "What a backend has to do.",
    "roost.storage.whole": "The rules of rows, messages and accounts, for a backend that keeps each whole.",
    "roost.journal.standing": "The rules of resources, for a backend that keeps each whole.",
    "roost.clock": "Time and ids, and the seam for both.",
    "roost.console.app": "The console as an ASGI application.",
    "roost.hosting.lambda_worker": "The worker as a function.",
    "roost.hosting.lambda_sweeper": "The sweeper as a function.",
    "roost.hosting.lambda_console": "The console as a function.",
}
"""The public modules, in the order in which people need them."""


def pages() -> dict[str, str]:
    """Each generated page, by its place on the site."""
    python = {f"reference/python/{name}.md": python_page(name, about) for name, about in PYTHON.items()}
    return {
        "reference/commands.md": commands_page(),
        "reference/settings.md": settings_page(),
        "reference/http.md": http_page(),
        "reference/journal.md": journal_page(),
        **python,
    }


def table(head: str, rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    """A table of Markdown; nothing where there are no rows."""
    lines = [
        f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"
        for row in rows
    ]
    if not lines:
        return ""
    columns = head.split(",")
    return "\n".join([f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *lines]) + "\n"


# --- commands ----------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Each command of `roost` with its full name."""
    from typer.main import get_command

    from roost.cli.app import app

    group: Any = get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())
        else:
            yield name, command


def commands_page() -> str:
    from roost.cli.output import EXIT_CODES

    found = list(commands())
    overview = table(
        "command,what it does",
        [
            (f"[`roost {name}`](#roost-{name.replace(' ', '-')})", _first(command.help))
            for name, command in found
        ],
    )
    parts = [
        "# Commands\n",
        "Made of the program; `roost COMMAND --help` says the same.\n",
        f"{EXIT_CODES}.\n",
        overview,
    ]
    for name, command in found:
        parts += [f"## roost {name}\n", _help(command.help), table("option,,default", _options(command))]
    return "\n".join(parts)


def _first(text: str) -> str:
    return text.strip().partition("\n\n")[0].replace("\n", " ")


def _help(text: str) -> str:
    """The help, with its examples as a block."""
    about, found, examples = inspect.cleandoc(text).partition("Examples:")
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    block = "\n```bash\n" + "\n".join(lines) + "\n```\n" if found else ""
    return about.strip().replace("\n\n  ", "\n\n") + "\n" + block


def _options(command: Any) -> Iterator[tuple[str, ...]]:
    for option in command.params:
        if option.hidden:
            continue
        names = ", ".join(
            f"`{name}`" for name in (*option.opts, *option.secondary_opts) if name.startswith("-")
        )
        about = (option.help or "") + (f" (`{option.envvar}`)" if option.envvar else "")
        yield names or f"`{(option.metavar or option.name).upper()}`", about, _value(option.default)


def _value(value: object) -> str:
    """A default as one writes it; nothing for one that says nothing."""
    shown = getattr(value, "value", value)
    if isinstance(shown, bool):
        return "`true`" if shown else ""
    if isinstance(shown, int | float) or (isinstance(shown, str) and shown):
        return f"`{shown:g}`" if isinstance(shown, float) and shown < 1e4 else f"`{shown}`"
    return f"`{','.join(shown)}`" if isinstance(shown, tuple) and shown else ""


# --- settings ----------------------------------------------------------------


def settings_page() -> str:
    from roost.config import Settings

    parts = [
        "# Settings\n",
        "Made of the settings' models. In `roost.toml` a setting of a table stands under its name; in the"
        " environment it is `ROOST_` and its name, nested with `__`. Durations are seconds, or text such as"
        " `90`, `30s`, `5m`, `1h30m`, `2d`.\n",
    ]
    parts += ["## At the top\n", _settings(Settings, "ROOST_")]
    for name, field in Settings.model_fields.items():
        model = _model(field.annotation)
        if model is None:
            continue
        keyed = field.annotation is not model
        parts += [
            f"## [{name}{'.NAME' if keyed else ''}]\n",
            _first(inspect.cleandoc(model.__doc__ or "")) + "\n",
            _settings(model, f"ROOST_{name.upper()}__{'NAME__' if keyed else ''}"),
        ]
    return "\n".join(parts)


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model of a table of settings, or of each entry of a table of tables."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = typing.get_args(annotation)
    return _model(inner[-1]) if typing.get_origin(annotation) is dict else None


def _settings(model: type[BaseModel], prefix: str) -> str:
    about = attributes(model)
    rows = []
    for name, field in model.model_fields.items():
        if _model(field.annotation) is not None:
            continue
        default = field.default if not field.default_factory else ""
        needed = "required" if field.is_required() else _value(default)
        key = field.alias or name
        rows.append(
            (f"`{key}`", f"`{prefix}{key.upper()}`", _type(field.annotation), needed, about.get(name, ""))
        )
    return table("setting,variable,type,default,", rows)


def attributes(model: type) -> dict[str, str]:
    """What the docstring of a class says of each of its attributes."""
    _, _, section = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc("x\n" + section).splitlines()[1:] if section else []:
        if line and not line.startswith(" "):
            head, _, text = line.partition(": ")
            names = [name.strip() for name in head.split(",")]
            found |= dict.fromkeys(names, text)
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return found


def _type(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(inner[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(part) for part in inner if part is not type(None))
    if origin is tuple:
        return "list of texts, or one with commas"
    if annotation is SecretStr:
        return "secret text"
    names: Mapping[Any, str] = {str: "text", float: "number", int: "whole number", bool: "`true`, `false`"}
    return (
        names.get(annotation) or names.get(origin) or getattr(annotation, "__name__", str(annotation)).lower()
    )


# --- Python ------------------------------------------------------------------


def public_names(module: str) -> list[str]:
    """The names of a public module: its `__all__`, or what it defines that is not private."""
    loaded = import_module(module)
    if hasattr(loaded, "__all__"):
        return sorted(loaded.__all__)
    return [
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module
        and (inspect.isclass(value) or inspect.isroutine(value))
    ]


def python_page(module: str, about: str) -> str:
    parts = [f"# {module}\n", f"{about}\n"]
    parts += [f"::: {module}.{name}\n" for name in public_names(module)]
    return "\n".join(parts)


# --- HTTP --------------------------------------------------------------------


def http_page() -> str:
    from roost.console.api.openapi import document
    from roost.console.api.operations import OPERATIONS

    found = document(OPERATIONS, "/api/v1")
    parts = [
        "# HTTP API\n",
        f"{found['info']['description']} Made of the document that the console serves at"
        " `/api/v1/openapi.json`. Errors are `application/problem+json` with a `code`. A write with an"
        " `Idempotency-Key` acts once; a read with `If-None-Match` answers 304 when nothing has changed.\n",
    ]
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            parts += [f"## {method.upper()} {path}\n", f"{operation['summary']}.\n", *_operation(operation)]
    parts += ["## Shapes\n"]
    for name, schema in sorted(found["components"]["schemas"].items()):
        parts += [f"### {name}\n", schema.get("description", ""), "", _shape(schema)]
    return "\n".join(parts)


def _operation(operation: Mapping[str, Any]) -> Iterator[str]:
    query = [part for part in operation["parameters"] if part["in"] == "query"]
    yield table(
        "query,type,",
        [
            (f"`{part['name']}`", _schema(part["schema"]), part["schema"].get("description", ""))
            for part in query
        ],
    )
    body = operation.get("requestBody")
    if body:
        yield f"Takes {_schema(body['content']['application/json']['schema'])}.\n"
    given = [
        f"{status} {_schema(response['content']['application/json']['schema'])}"
        for status, response in operation["responses"].items()
        if "application/json" in response.get("content", {})
    ]
    yield f"Gives {', '.join(given)}.\n"


def _shape(schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", ())
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"]) + "\n"
    return table(
        "field,type,",
        [
            (
                f"`{name}`" + ("" if name in needed else " (optional)"),
                _schema(inner),
                inner.get("description", ""),
            )
            for name, inner in schema.get("properties", {}).items()
        ],
    )


def _schema(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_schema(part) for part in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_schema(schema.get('items', {}))}"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    return str(schema.get("type", "any JSON"))


# --- journal -----------------------------------------------------------------


def journal_page() -> str:
    from roost.journal import control, entries, events, lines
    from roost.names import State

    moves = {**lines.TABLE, **control.TABLE}
    rows, parts = [], []
    for kind in events.Kind:
        event = _event(kind)
        states = moves[kind][0]
        met = (
            "nothing yet"
            if states == {None}
            else ", ".join(
                "nothing yet" if state is None else f"`{state}`" for state in sorted(states, key=str)
            )
        )
        everywhere = set(State) <= set(states)
        rows.append(
            (f"[`{kind}`](#{kind})", "every state" if everywhere else met, _first(event.__doc__ or ""))
        )
        parts += [
            f"### {kind}\n",
            (event.__doc__ or "").partition("Attributes:")[0].strip() + "\n",
            _fields(event),
        ]
    return "\n".join(
        [
            "# Journal\n",
            "Made of `roost.journal`. An entry stands at a position of a work item's journal; its kind says"
            " what happened. `roost events --json` prints one object a line with `work_id`, `position`,"
            " `kind`, `version`, `time`, `at`, `actor`, `state` and `detail`, with the fields below."
            " `roost status --json` prints an object with `item`, `control` (the control state below),"
            " `snapshot` and `artifacts`.\n",
            "## Kinds, and the states that they meet\n",
            table("kind,meets,", rows),
            "## Fields\n",
            *parts,
            "## Control state\n",
            "What is true after an entry; each entry carries it, so the last one says all.\n",
            _fields(entries.Control),
        ]
    )


def _event(kind: Any) -> type:
    from roost.journal import events

    [found] = [
        value
        for value in vars(events).values()
        if isinstance(value, type) and getattr(value, "kind", None) == kind
    ]
    return found


def _fields(event: type) -> str:
    about = attributes(event)
    names = getattr(event, "__struct_fields__", ())
    return table("field,", [(f"`{name}`", about.get(name, "")) for name in names])
