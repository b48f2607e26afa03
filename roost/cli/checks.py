"""`roost engines` and `roost doctor`."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import roost.cli.options as options
from roost.cli.output import FAILED, OK, print_json, print_table, say
from roost.errors import RoostError, StorageError
from roost.names import State, without_password

if TYPE_CHECKING:
    from roost.config import Settings
    from roost.storage.ports import Finding
    from roost.wiring import Runtime

UNSERVED_SECONDS = 60.0  # work that no worker could take for so long is a finding
_ROWS_MAX = 1000


def engines(
    as_json: options.Json = False,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """List the engines that are installed here, with the fields of their payloads.

    Examples:

      roost engines --json
    """
    rows = _installed(options.settings_of(None, home, config))
    if as_json:
        print_json(rows)
        return
    print_table(
        ("ENGINE", "FROM", "PAYLOAD", "PROBLEM"),
        [(row["name"], row["source"], _fields(row), row["error"]) for row in rows],
        empty="no engines; install one, or try a file: roost worker --engines module:attribute",
    )


def _fields(row: dict[str, Any]) -> str:
    if row["error"] is not None:
        return ""  # nobody knows
    return ", ".join(row["payload"]) or "any object"


def _installed(settings: Settings) -> list[dict[str, Any]]:
    from roost.loading import installed_engines, load_engines

    rows = []
    for name, point in sorted(installed_engines().items()):
        row: dict[str, Any] = {
            "name": name,
            "source": point.value,
            "payload": [],
            "version": None,
            "error": None,
        }
        try:
            with redirect_stdout(sys.stderr):  # what an engine prints is no part of the answer
                registry = load_engines(name, settings.engines)
            for spec in registry:
                row["version"] = spec.engine_version
                if spec.payload_model is not None:
                    row["payload"] = list(spec.payload_model.model_fields)
        except RoostError as error:
            row["error"] = str(error)
        rows.append(row)
    return rows


def doctor(
    as_json: options.Json = False,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Check the settings, the engines, the storage, and whether work waits that no worker can take;
    exit code 1 if something is wrong.

    Examples:

      roost doctor

      roost doctor --storage local:/var/lib/roost --json
    """
    settings = options.settings_of(storage, home, config)
    options.finish(_examine(settings, as_json))


async def _examine(settings: Settings, as_json: bool) -> int:
    from importlib.metadata import version

    from roost.storage.codec import FORMAT
    from roost.storage.ports import Finding

    findings = [
        Finding("roost", True, f"version {version('roost-runtime')}, reads entries up to format {FORMAT}"),
        Finding("python", sys.version_info >= (3, 11), sys.version.split()[0]),
    ]
    findings.append(Finding("storage", True, without_password(settings.storage)))
    for name, source in sorted(settings.sources.items()):
        findings.append(Finding(f"setting {name}", True, f"from {source}"))
    findings += [
        Finding(f"engine {row['name']}", row["error"] is None, row["error"] or row["source"])
        for row in _installed(settings)
    ]
    findings += _strange_engines(settings)
    findings += await _storage(settings)
    if as_json:
        print_json(findings)
    else:
        rows = [("ok" if f.is_ok else "WRONG", f.name, f.detail, f.hint) for f in findings]
        print_table(("", "CHECK", "FOUND", "WHAT TO DO"), rows)
        wrong = sum(not finding.is_ok for finding in findings)
        say("all is well" if not wrong else f"{wrong} of {len(findings)} checks failed")
    return OK if all(finding.is_ok for finding in findings) else FAILED


def _strange_engines(settings: Settings) -> list[Finding]:
    """Settings of engines that nobody has here, and that are called nearly as one that is."""
    from roost.loading import installed_engines
    from roost.storage.ports import Finding

    installed = installed_engines()
    findings = []
    for name in settings.engines.keys() - installed.keys():
        for near in difflib.get_close_matches(name, installed, n=1, cutoff=0.75):
            text = f"no engine {name!r} is installed here"
            findings.append(Finding(f"setting engines.{name}", False, text, f"Did you mean engines.{near}?"))
    return findings


async def _storage(settings: Settings) -> list[Finding]:
    from roost.storage.ports import Finding
    from roost.wiring import open_runtime

    try:
        async with open_runtime(settings) as runtime:
            found = list(await runtime.backend.check())
            return [*found, *await _work(runtime, all(finding.is_ok for finding in found))]
    except RoostError as error:
        return [Finding("open", False, str(error), error.hint)]


async def _work(runtime: Runtime, is_storage_well: bool) -> list[Finding]:
    """Whether work waits that no worker could take which looked at it, by what they lack.

    Nothing is said where it can't be looked for and the storage's own findings say why.
    """
    try:
        return await _unserved(runtime)
    except StorageError:
        if is_storage_well:
            raise
        return []


async def _unserved(runtime: Runtime) -> list[Finding]:
    from roost.core.where import containing, parse
    from roost.journal.decide import WAITS_FOR_ENGINE
    from roost.storage.ports import Finding

    now = runtime.parts.clock.now()
    counts: Counter[str] = Counter()
    for state in (State.QUEUED, State.SCHEDULED):
        where = parse(f"state:{state} {containing('reason', WAITS_FOR_ENGINE)}", now)
        found = await runtime.client.find(where, limit=_ROWS_MAX)
        counts.update(
            row.reason for row in found.rows if max(row.since, row.wake_at or 0.0) < now - UNSERVED_SECONDS
        )
    return [
        Finding(
            "work",
            False,
            f"{count} {'waits' if count == 1 else 'wait'}{why.removeprefix('waits')}",
            "Run one: roost worker --engines NAME; `roost list --where 'reason:waits*'` says which.",
        )
        for why, count in counts.items()
    ] or [Finding("work", True, "none waits for a worker that there is not")]
