"""What came of a run, and how two differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roost.journal.entries import Entry, IndexRow
from roost.journal.events import Recorded
from roost.models import Snapshot
from roost.names import State
from roost.storage.query import IndexQuery
from roost.testing.driver import Driver

WORK_ID = "lab"  # shown; a world that others were in before has another
_WORKS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: of each work item, and what the observer saw.

    Attributes:
        works: by work id: state, version, step, data, result and artifacts (name, digest).
        observed: what `observe` returned in the end.
        history: the journals, as lines to print.
        waits_for: signals that the work still waits for, with nobody to send them.
        reason: why the work is where it is.
        once_counts: by work id: how many effects were recorded by `once`.
        error: the type of the error that the work failed of; empty: it did not fail.
    """

    works: Mapping[str, Mapping[str, Any]]
    observed: Any
    history: Sequence[str] = field(compare=False)
    waits_for: str = ""
    reason: str = ""
    once_counts: Mapping[str, int] = field(default_factory=dict)
    error: str = ""

    @property
    def in_words(self) -> str:
        """How the work ended."""
        work = self.works[WORK_ID]
        why = f": {self.reason}" if self.reason else ""
        return f"{work['state']} after version {work['version']}{why}"


async def works_of(driver: Driver, work_id: str) -> dict[str, dict[str, Any]]:
    found = {}
    for row in await _rows(driver, work_id):
        view = await driver.client.status(row.work_id)
        found[row.work_id.replace(work_id, WORK_ID, 1)] = {
            "state": view.control.state.value,
            "version": view.control.version,
            **(_shown(view.snapshot) if view.snapshot is not None else {}),
        }
    return found


async def _rows(driver: Driver, work_id: str) -> Sequence[IndexRow]:
    page = await driver.client.list(IndexQuery(id_prefix=work_id), limit=_WORKS_MAX)
    return page.rows


def _shown(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "step": snapshot.step,
        "status": snapshot.status,
        "data": snapshot.data,
        "result": snapshot.result,
        "artifacts": sorted((artifact.name, artifact.digest) for artifact in snapshot.artifacts),
    }


async def entries_of(driver: Driver, work_id: str) -> list[Entry]:
    """The journals of the work and of its children, in order of time."""
    entries: list[Entry] = []
    for row in await _rows(driver, work_id):
        entries += [entry async for entry in driver.client.events(row.work_id)]
    return sorted(entries, key=lambda entry: (entry.at, entry.work_id, entry.position))


def lines_of(entries: Sequence[Entry], work_id: str) -> list[str]:
    """Entries to print."""
    return [_line(entry, entry.work_id.replace(work_id, WORK_ID, 1)) for entry in entries]


def once_counts_of(entries: Sequence[Entry], work_id: str) -> dict[str, int]:
    """How many effects each work item recorded."""
    recorded = (
        entry.work_id.replace(work_id, WORK_ID, 1)
        for entry in entries
        if isinstance(entry.event, Recorded) and not entry.event.is_begun
    )
    return dict(Counter(recorded))


def error_of(entries: Sequence[Entry], work_id: str) -> str:
    """The type of the error that the work failed of; empty: it did not fail."""
    own = [entry for entry in entries if entry.work_id == work_id]
    last = own[-1] if own else None
    if last is None or last.control.state is not State.FAILED:
        return ""
    return getattr(getattr(last.event, "error", None), "type", "")


def _line(entry: Entry, name: str) -> str:
    kind, control = entry.event.kind.value, entry.control
    return (
        f"{name:<12} {entry.position:>3}  {kind:<16} v{control.version:<3} "
        f"{control.state.value:<10} step {control.step!r} by {entry.actor}"
    )


def unsteady(peace: Outcome, again: Outcome, ignore: Iterable[str]) -> tuple[str, str] | None:
    """Where two undisturbed runs differ in data: a path that may be ignored, and in words."""
    ignored = frozenset(ignore)
    for path, text in _differences(peace.works, again.works, ()):
        if not _is_ignored(path, ignored):
            return ".".join(path[1:]), text
    return None


def compare(
    peace: Outcome, other: Outcome, ignore: Iterable[str], *, is_outside_whole: bool = True
) -> str | None:
    """The first difference of two outcomes, in words; None if there is none that counts.

    Args:
        is_outside_whole: what was observed is of the whole run, and counts.
    """
    for work_id, work in peace.works.items():
        state = other.works.get(work_id, {}).get("state", "not there")
        if state != work["state"]:
            why = f": {other.reason}" if other.reason and work_id == WORK_ID else ""
            return f"{work_id} is {work['state']} in peace, {state} here{why}"
    if (found := unsteady(peace, other, ignore)) is not None:
        return found[1]
    for work_id, count in other.once_counts.items():
        if count > peace.once_counts.get(work_id, 0):
            return (
                f"{work_id} recorded {count} effects by `once`, and {peace.once_counts.get(work_id, 0)} in "
                "peace: one was done again, under another key"
            )
    if is_outside_whole and peace.observed != other.observed:
        return f"outside: {_short(peace.observed)} in peace, {_short(other.observed)} here"
    return None


def _is_ignored(path: tuple[str, ...], ignored: frozenset[str]) -> bool:
    inner = path[1:]  # without the work id
    return any(".".join(inner[:length]) in ignored for length in range(1, len(inner) + 1))


def _differences(ours: Any, theirs: Any, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], str]]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _differences(ours.get(key), theirs.get(key), (*path, str(key)))
    elif ours != theirs:
        yield path, f"{'.'.join(path)}: {_short(ours)} in peace, {_short(theirs)} here"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
