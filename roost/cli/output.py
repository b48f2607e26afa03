"""What goes to the terminal: tables for people, JSON for programs, errors to stderr."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from roost.errors import (
    AccessDenied,
    ArtifactNotFound,
    ConflictError,
    EngineNotFound,
    InputError,
    RoostError,
    StorageDenied,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
    WorkNotFound,
)

OK, FAILED, USAGE, NOT_FOUND, DENIED, CONFLICT, UNAVAILABLE = 0, 1, 2, 3, 4, 5, 6
WORK_FAILED, WORK_CANCELLED, TIMED_OUT, INTERRUPTED, UNREAD = 7, 8, 124, 130, 141

EXIT_CODES = (
    "Exit codes: 0 ok · 1 failed · 2 wrong usage or input · 3 not found · 4 not allowed · 5 conflict · "
    "6 storage unavailable, full or read-only · 7 the work waited for failed · 8 it was cancelled · "
    "124 timed out · 130 interrupted · 141 the output was not read to its end"
)

_CODES: tuple[tuple[type[RoostError], int], ...] = (
    (InputError, USAGE),
    (WorkNotFound, NOT_FOUND),
    (ArtifactNotFound, NOT_FOUND),
    (EngineNotFound, NOT_FOUND),
    (AccessDenied, DENIED),
    (StorageDenied, DENIED),
    (ConflictError, CONFLICT),
    (StorageUnavailable, UNAVAILABLE),
    (StorageFull, UNAVAILABLE),
    (StorageReadOnly, UNAVAILABLE),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_COLOURED = ("STATE", "KIND")
_COLOURS = {
    "done": "green",
    "failed": "bold red",
    "cancelled": "dim",
    "running": "cyan",
    "blocked": "yellow",
    "waiting": "yellow",
}


def exit_code(error: RoostError) -> int:
    """The exit code that stands for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def print_error(error: RoostError) -> None:
    """Say what was wrong and what to do, on stderr."""
    say(f"Error: {error}")
    if error.hint:
        say(f"  {error.hint}")


def open_closed_streams() -> None:
    """Give a process that was started with closed streams (`>&-`) some to read and write.

    Python has None in their place: what is said to nobody would be an error, or end up on stdout.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  open as long as the process
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(safe(text, keep_lines=True), file=sys.stderr, flush=True)


def command(words: str, *arguments: str) -> str:
    """A command of `roost` as a shell takes it, also with an id or a name that looks like an option."""
    mark = "-- " if any(text.startswith("-") for text in arguments) else ""
    return f"roost {words} {mark}{shlex.join(arguments)}"


def check_reader() -> None:
    """Before a wait for news: give out what was written, and see whether anybody reads it.

    A pipe gets text in blocks otherwise: `roost events -f | grep failed` would show nothing for long.

    Raises:
        BrokenPipeError: nobody does any more, as in `roost events -f | head -1`.
    """
    sys.stdout.flush()
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # asks for errors only
    if poll.poll(0):
        raise BrokenPipeError


def is_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    """One JSON document, on a line of its own where nobody reads along."""
    text = json.dumps(plain(value), ensure_ascii=not _takes_any_text(), indent=2 if is_terminal() else None)
    print(text, flush=True)


def print_json_line(value: Any) -> None:
    """One JSON document on one line, for streams."""
    print(json.dumps(plain(value), ensure_ascii=not _takes_any_text()), flush=True)


def _takes_any_text() -> bool:
    return sys.stdout.encoding.lower().replace("-", "") == "utf8"


def plain(value: Any) -> Any:
    """Dataclasses, structs, models and enums as what JSON has; no field left out."""
    from msgspec.structs import asdict
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=asdict)


def safe(text: object, *, keep_lines: bool = False) -> str:
    """Text that can't steer the terminal: control characters are shown as escapes."""
    lines = str(text)
    return _CONTROL.sub(lambda found: _escape(found.group(), keep_lines=keep_lines), lines)


def _escape(char: str, *, keep_lines: bool) -> str:
    return char if keep_lines and char in "\n\t" else char.encode("unicode_escape").decode()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
    """A table on a terminal; elsewhere tab-separated lines without a header.

    Args:
        empty: what to tell a person when there are no rows.
    """
    texts = [["" if cell is None else safe(cell) for cell in row] for row in rows]
    if not is_terminal():
        for row in texts:
            print("\t".join(row))
        return
    if not texts:
        say(empty or "nothing there")
        return
    _print_rich(columns, texts)


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=_colour(columns[n], cell)) for n, cell in enumerate(row)))
    widths = [max(cell_len(line[n]) for line in [list(columns), *rows]) + 2 for n in range(len(columns))]
    # Wider than the terminal rather than cut: an id that is not whole is of no use.
    # rich takes a width at its word only with a height; without, a dumb terminal has 80 columns.
    width = max(sum(widths), os.get_terminal_size().columns)
    console = Console(width=width, height=len(rows) + 1, highlight=False)
    console.print(table)


def _colour(column: str, cell: str) -> str:
    return _COLOURS.get(cell, "") if column in _COLOURED else ""  # a step may be called `failed`


def styled(text: str) -> str:
    """A state in its colour, on a terminal that wants colours."""
    if not is_terminal() or os.environ.get("NO_COLOR") or text not in _COLOURS:
        return text
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(Text(text, style=_COLOURS[text]), end="")
    return captured.get()
