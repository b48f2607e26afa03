"""Golden files: a run of an engine written down, and held against later runs.

A golden file is JSON: the payload, and each committed version with what the step before it
was given. `check_golden` runs the engine again and compares; `replay` runs each step by
itself from the snapshot that the file has before it, and so names the step that differs,
also where an earlier one differs too.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from roost.models import Snapshot
from roost.testing.harness import EngineHarness, Work

FORMAT = 1
_TIMES = ("created_at", "updated_at", "finished_at", "failed_at")


class GoldenDiffers(AssertionError):
    """A run is not the one that was written down; says where, and how to write it anew."""


def record(work: Work) -> dict[str, Any]:
    """What a golden file holds of a work item."""
    item = work.view.item
    return {
        "format": FORMAT,
        "engine": item.engine,
        "payload": item.payload,
        "state": work.state.value,
        "versions": [_shown(snapshot) for snapshot in work.versions],
    }


def _shown(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot without what each run has anew: ids and times."""
    fields = snapshot.model_dump(mode="json", exclude={"work_id", "engine", *_TIMES}, exclude_defaults=True)
    for artifact in fields.get("artifacts", ()):
        artifact.pop("created_at", None)
    return {"version": snapshot.version, "step": snapshot.step, **fields}


def check_golden(work: Work, path: Path, *, update: bool = False, ignore: Iterable[str] = ()) -> None:
    """Hold a work item against a golden file; write it where there is none.

    Args:
        update: write it anew whatever it says (`pytest --roost-update-golden`).
        ignore: dotted paths within a version that may differ: `data.fetched_at`.

    Raises:
        GoldenDiffers: they differ.
    """
    now = record(work)
    if update or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
        return
    then = json.loads(path.read_text())
    if (difference := _first_difference(then, now, frozenset(ignore))) is not None:
        raise GoldenDiffers(
            f"{path}: {difference}\nIf that is meant: pytest --roost-update-golden, and read what changes."
        )


def _first_difference(then: Mapping[str, Any], now: Mapping[str, Any], ignored: frozenset[str]) -> str | None:
    for name in ("format", "engine", "payload", "state"):
        if then.get(name) != now.get(name):
            return f"{name} is {now.get(name)!r}, was {then.get(name)!r}"
    for before, after in zip(then["versions"], now["versions"], strict=False):
        for path, was, now_is in _leaves(before, after, ()):
            if not any(".".join(path[:length]) in ignored for length in range(1, len(path) + 1)):
                return f"version {before['version']}: {'.'.join(path)} is {now_is!r}, was {was!r}"
    if len(then["versions"]) != len(now["versions"]):
        return f"{len(now['versions'])} versions, were {len(then['versions'])}"
    return None


def _leaves(was: Any, now: Any, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in sorted(was.keys() | now.keys()):
            yield from _leaves(was.get(key), now.get(key), (*path, str(key)))
    elif was != now:
        yield path, was, now


def replay(
    engine: Any, path: Path, *, others: Sequence[Any] = (), ignore: Iterable[str] = ()
) -> Sequence[str]:
    """Run each step of a golden file by itself, from the version before it.

    Steps that were given signals or results of children are left out: the file has none.

    Returns:
        What differs, one text for each step that does; none, if the engine still does what it did.
    """
    golden = json.loads(path.read_text())
    ignored, found = frozenset(ignore), []
    for before, after in pairwise(golden["versions"]):
        if "wait_for" in before:
            continue
        with EngineHarness(_FromHere(engine, before), *others) as harness:
            work = harness.enqueue(golden["engine"], golden["payload"])
            shown = _shown(work.versions[0]) if work.versions else {"reason": work.reason}
        shown["version"] = after["version"]
        for where, was, now in _leaves(after, shown, ()):
            if not any(".".join(where[:length]) in ignored for length in range(1, len(where) + 1)):
                found.append(
                    f"step {before['step']!r} to version {after['version']}: "
                    f"{'.'.join(where)} is {now!r}, was {was!r}"
                )
                break
    return found


class _FromHere:
    """An engine that begins from a given snapshot, and does one step."""

    def __init__(self, engine: Any, before: Mapping[str, Any]) -> None:
        self.engine_id = engine.engine_id
        self._engine = engine
        self._before = before

    def init_snapshot(self, item: Any) -> Snapshot:
        kept = ("step", "data", "status", "history")
        fields = {name: self._before[name] for name in kept if name in self._before}
        return Snapshot(work_id=item.work_id, engine=item.engine, **fields)

    async def step(self, snapshot: Snapshot, item: Any) -> Snapshot:
        if snapshot.version > 0:
            return snapshot.finish()
        came = self._engine.step(snapshot, item)
        after: Snapshot = await came if inspect.isawaitable(came) else came
        return after
