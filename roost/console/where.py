"""The filter of a work list: one line of tokens, in the address bar and on the command line.

`state:failed engine:research -engine:demo lane:high created<3d attempts>2 timeout`: words
with a colon or a comparison restrict, a `-` in front turns one around, and plain words must
be in the id, step or reason. What the index can't do is done on its rows, page by page.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from roost import times
from roost.errors import InputError
from roost.journal.entries import IndexRow
from roost.models import Lane, State
from roost.storage.ports import IndexQuery

TOKENS_MAX = 20
TEXT_MAX_CHARS = 500
_TOKEN = re.compile(r"(?P<not>-?)(?P<name>[a-z]+)(?P<how>[:<>])(?P<value>.+)")
_TEXTS: dict[str, Callable[[IndexRow], str]] = {
    "state": lambda row: row.state.value,
    "engine": lambda row: row.engine,
    "lane": lambda row: row.lane.value,
    "step": lambda row: row.step,
    "worker": lambda row: row.worker_id or "",
    "id": lambda row: row.work_id,
    "reason": lambda row: row.reason,
    "parent": lambda row: row.parent_id or "",
}
_AGES: dict[str, Callable[[IndexRow], float]] = {
    "created": lambda row: row.created_at,
    "updated": lambda row: row.updated_at,
    "since": lambda row: row.since,
}
_NUMBERS: dict[str, Callable[[IndexRow], float]] = {
    "attempts": lambda row: row.failures,
    "interruptions": lambda row: row.interruptions,
    "version": lambda row: row.version,
}
_CLOSED = {"state": State, "lane": Lane}

Check = Callable[[IndexRow], bool]


@dataclass(frozen=True, slots=True)
class Where:
    """A filter, parsed.

    Attributes:
        text: as it was written.
        tokens: its parts.
        query: what the index does.
        checks: what its rows must still pass.
    """

    text: str
    tokens: tuple[str, ...] = ()
    query: IndexQuery = field(default_factory=IndexQuery)
    checks: tuple[Check, ...] = ()

    def matches(self, row: IndexRow) -> bool:
        """Whether a row that the index gave passes the rest."""
        return all(check(row) for check in self.checks)

    def having(self, token: str) -> str:
        """The text with one token more, in the place of one of the same name."""
        name = token.partition(":")[0]
        kept = [t for t in self.tokens if not t.startswith(f"{name}:")]
        return " ".join([*kept, token])

    def without(self, token: str) -> str:
        """The text with one token less."""
        return " ".join(t for t in self.tokens if t != token)

    @property
    def command(self) -> str:
        """The command line that lists the same."""
        parts = ["roost", "list"]
        for name, value in (
            ("--state", self.query.state),
            ("--engine", self.query.engine),
            ("--prefix", self.query.id_prefix),
        ):
            if value is not None:
                parts += [name, shlex.quote(value)]
        return " ".join(parts)


def parse(text: str, now: float) -> Where:
    """Read a filter.

    Raises:
        InputError: a token is not understood; says which are.
    """
    tokens = tuple(text.split())
    if len(text) > TEXT_MAX_CHARS or len(tokens) > TOKENS_MAX:
        raise InputError(f"a filter has at most {TEXT_MAX_CHARS} characters and {TOKENS_MAX} parts")
    fields: dict[str, str | float] = {}
    checks: list[Check] = []
    for token in tokens:
        found = _TOKEN.fullmatch(token)
        if found is None or found["name"] not in (*_TEXTS, *_AGES, *_NUMBERS, "label"):
            checks.append(_word(token))
            continue
        pushed = _pushed(found, now) if found["name"] not in fields else None
        if pushed is None or pushed[0] in fields:
            checks.append(_check(found, now))
        else:
            fields[pushed[0]] = pushed[1]
    name, _, value = str(fields.get("label", "")).partition("=")
    query = IndexQuery(
        label=(name, value) if "label" in fields else None,
        parent_id=str(fields["parent_id"]) if "parent_id" in fields else None,
        state=State(str(fields["state"])) if "state" in fields else None,
        engine=str(fields["engine"]) if "engine" in fields else None,
        id_prefix=str(fields["id_prefix"]) if "id_prefix" in fields else None,
        created_after=float(fields["created_after"]) if "created_after" in fields else None,
    )
    return Where(" ".join(tokens), tokens, query, tuple(checks))


def _word(token: str) -> Check:
    wanted = token.lower()
    return lambda row: any(wanted in text.lower() for text in (row.work_id, row.step, row.reason))


def _pushed(found: re.Match[str], now: float) -> tuple[str, str | float] | None:
    """What the index can do of a token: the query's field and value."""
    name, how, value = found["name"], found["how"], found["value"]
    if found["not"] or "*" in value.removesuffix("*"):
        return None
    if name == "id" and how == ":":
        return "id_prefix", value.removesuffix("*")
    if "*" in value:
        return None
    if name == "parent" and how == ":":
        return "parent_id", value
    if name == "label" and how == ":" and "=" in value:
        return "label", value
    if name in ("state", "engine") and how == ":":
        _check_closed(name, value)
        return name, value
    if name == "created" and how == "<":
        return "created_after", now - times.seconds(value, token_name(found))
    return None


def _check(found: re.Match[str], now: float) -> Check:
    check = _plain_check(found, now)
    return (lambda row: not check(row)) if found["not"] else check


def _plain_check(found: re.Match[str], now: float) -> Check:
    name, how, value = found["name"], found["how"], found["value"]
    if name == "label" and how == ":":
        label, mark, wanted = value.partition("=")
        return lambda row: any(key == label and (not mark or text == wanted) for key, text in row.labels)
    if name in _TEXTS and how == ":":
        if "*" not in value:
            _check_closed(name, value)
        text, pattern = _TEXTS[name], f"{value}*" if name == "id" and "*" not in value else value
        return lambda row: fnmatchcase(text(row), pattern)
    if name in _AGES and how in "<>":
        at, instant = _AGES[name], now - times.seconds(value, token_name(found))
        return (lambda row: at(row) > instant) if how == "<" else (lambda row: at(row) < instant)
    if name in _NUMBERS and value.isdecimal():
        number, limit = _NUMBERS[name], int(value)
        compare: dict[str, Check] = {
            ":": lambda row: number(row) == limit,
            "<": lambda row: number(row) < limit,
            ">": lambda row: number(row) > limit,
        }
        return compare[how]
    raise InputError(
        f"the filter {found.group()!r} is not understood",
        hint="Such as state:failed engine:demo -lane:low label:tenant=acme created<3d attempts>2",
    )


def _check_closed(name: str, value: str) -> None:
    """Refuse a state or lane that there is not."""
    if name in _CLOSED and value not in [member.value for member in _CLOSED[name]]:
        known = ", ".join(member.value for member in _CLOSED[name])
        raise InputError(f"there is no {name} {value!r}", hint=f"Known: {known}.")


def token_name(found: re.Match[str]) -> str:
    """What an error calls a token."""
    return f"filter {found['name']}{found['how']}"
