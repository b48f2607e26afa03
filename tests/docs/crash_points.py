"""What each named crash point leaves behind, seen on the real core: the page `guides/crash-points.md`.

For each name of `ROOST_CRASH_AT` a small story is run twice in virtual time, once with a process
that dies before the call and once after it, and its journals are drawn. Nothing on the page is
written by hand but what each story is about.

    python -m tests.docs.crash_points      # writes the page anew
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from roost.journal.entries import Entry
from roost.journal.events import Kind
from roost.storage.instrument import CRASH_CALLS, When
from roost.testing.driver import LEASE_SECONDS
from roost.testing.safety import in_virtual_time, memory_world
from roost.testing.worlds import local_world
from tests.docs.crash_lab import Lab
from tests.docs.crash_stories import STORIES

PAGE = Path(__file__).parents[2] / "examples" / "guides" / "crash-points.md"
GAP = 3  # between the two columns
HEAD = f"""# What each crash leaves behind

Each section is one named crash point of `ROOST_CRASH_AT`: on the left a process dies before the call,
on the right after it. The pictures are what the core did, in virtual time, with a lease of
{LEASE_SECONDS:g} s; a test draws them anew and compares (`python -m tests.docs.crash_points` writes this
page).
[What is promised](semantics.md) says what follows from them.

A line with a number is an entry of a journal, at its position, and who appended it; `·` is what an engine
does outside the journal; `X` is the death. What is under it, others did: another worker when the lease is
over, a sweeper by the due row, or whoever calls again because no answer came.
"""


def names() -> list[str]:
    """Every name of a crash point: the kinds in the order of a life, then the calls."""
    return [*(kind.value for kind in Kind), *sorted(CRASH_CALLS)]


@dataclass(frozen=True)
class Seen:
    """One column: its lines, what was done twice, and the journals in the end."""

    lines: list[str]
    twice: list[str]
    has_died: bool
    entries: list[Entry]


async def _run(open_world: Callable[[], Any], name: str, when: When) -> Seen:
    async with open_world() as world:
        lab = Lab(world, name, when)
        await STORIES[name][1](lab)
        names = {work_id: _name(work_id) for _, work_id, _ in lab.lines if work_id}
        wide = max(map(len, names.values())) + 2 if len(names) > 1 else 0
        lines = [
            f"{at:6.1f} s  {names.get(work_id, '') if wide else '':<{wide}}{text}"
            for at, work_id, text in lab.lines
        ]
        twice = sorted(what for what, count in lab.done.items() if count > 1)
        return Seen(lines, [what.partition(" of ")[0] for what in twice], lab.has_died, lab.entries)


_SPACES = {"roost-switches": "switches", "roost-keys": "key", "roost-conversations": "room"}


def _name(work_id: str) -> str:
    """A short name for a journal."""
    space, _, own = work_id.rpartition("/")
    if own.startswith(":"):  # of operators' deeds, by month
        return "deeds"
    return _SPACES.get(space, own if len(own) < 12 else "w")


def seen(name: str, when: When) -> Seen:
    """What happens if a process dies there."""
    if name == "renew":
        return asyncio.run(_run(local_world, name, when))
    return in_virtual_time(_run(memory_world, name, when))


def section(name: str) -> str:
    """One crash point as Markdown."""
    before, after = seen(name, "before"), seen(name, "after")
    rows = zip_longest(
        [f"before-{name}", "", *before.lines], [f"after-{name}", "", *after.lines], fillvalue=""
    )
    width = max(map(len, [f"before-{name}", *before.lines])) + GAP
    drawn = "\n".join(f"{left:<{width}}{right}".rstrip() for left, right in rows)
    again = f"before it: {_list(before.twice)}; after it: {_list(after.twice)}"
    about = STORIES[name][0]
    return f"### {name}\n\n{about}\n\n```text\n{drawn}\n```\n\nDone more than once, if it dies {again}.\n"


def _list(things: list[str]) -> str:
    return ", ".join(things) if things else "nothing"


def page() -> str:
    """The whole page."""
    kinds = [section(kind.value) for kind in Kind]
    calls = [section(call) for call in sorted(CRASH_CALLS)]
    return "\n".join(
        [HEAD, "## Appends, by the kind of their entry\n", *kinds, "## Calls of the storage\n", *calls]
    )


if __name__ == "__main__":
    PAGE.write_text(page())
