"""A filter of work: one line of tokens, in the address bar, on the command line, in an operation.

`state:failed engine:research -engine:demo lane:high created<3d attempts>2 timeout`: words
with a colon or a comparison restrict, a `-` in front turns one around, and plain words must
be in the id, step or reason. `*` stands for any text, and quotes hold a value with spaces
together: `reason:"*no answer*"`. What the index can't do is done on its rows, page by page.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from roost import times
from roost.core.step_log import fingerprint
from roost.errors import InputError
from roost.journal.entries import IndexRow
from roost.models import Lane, State
from roost.names import Order
from roost.storage.query import IndexQuery

TOKENS_MAX = 20
TEXT_MAX_CHARS = 1000
_SPLIT = re.compile(r'(?:"[^"]*"|\S)+')
_GLOB = re.compile(r"([*?\[])")
_TOKEN = re.compile(r"(?P<not>-?)(?P<name>[a-z]+)(?P<how>[:<>])(?P<value>.*)")
_TEXTS: dict[str, Callable[[IndexRow], str]] = {
    "state": lambda row: row.state.value,
    "engine": lambda row: row.engine,
    "lane": lambda row: row.lane.value,
    "step": lambda row: row.step,
    "worker": lambda row: row.worker_id or "",
    "id": lambda row: row.work_id,
    "reason": lambda row: row.reason,
    "parent": lambda row: row.parent_id or "",
    "error": lambda row: fingerprint(row.engine, row.step, row.reason),
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
_NAMES = (*_TEXTS, *_AGES, *_NUMBERS, "label")

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

    text: str = ""
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

    def sorted(self, order: Order) -> Where:
        """Itself, in an order."""
        return replace(self, query=replace(self.query, order=order))

    @property
    def order(self) -> Order:
        """In which its rows come."""
        return self.query.order

    def within(self, namespace: str, whole: Callable[[str], str]) -> Where:
        """Itself in a namespace.

        Args:
            whole: makes an id one of the namespace.
        """
        query = self.query
        prefix = whole(query.id_prefix) if query.id_prefix else None
        parent_id = whole(query.parent_id) if query.parent_id else None
        query = replace(query, namespace=namespace, id_prefix=prefix, parent_id=parent_id)
        return replace(self, query=query)

    @property
    def command(self) -> str:
        """The command line that lists the same."""
        parts = ["roost", "list"]
        if self.text:
            parts += ["--where", shlex.quote(self.text)]
        if self.order is not Order.NEWEST:
            parts += ["--sort", self.order.value]
        return " ".join(parts)


def token(name: str, value: str) -> str:
    """`name:value` as a part of a filter that means just this value."""
    text = _GLOB.sub(r"[\1]", value).replace('"', "?")
    return f'{name}:"{text}"' if any(char.isspace() for char in text) else f"{name}:{text}"


def containing(name: str, piece: str) -> str:
    """A part of a filter: what it names has this text in it."""
    text = _GLOB.sub(r"[\1]", piece).replace('"', "?")
    return f'{name}:"*{text}*"'


def parse(text: str, now: float) -> Where:
    """Read a filter.

    Args:
        now: what ages count from.

    Raises:
        InputError: a token is not understood; says which are.
    """
    tokens = tuple(_SPLIT.findall(text))
    if len(text) > TEXT_MAX_CHARS or len(tokens) > TOKENS_MAX:
        raise InputError(f"a filter has at most {TEXT_MAX_CHARS} characters and {TOKENS_MAX} parts")
    fields: dict[str, str | float] = {}
    checks: list[Check] = []
    for given in tokens:
        found = _TOKEN.fullmatch(given)
        if found is None or found["name"] not in _NAMES:
            _check_slip(found, given)
            checks.append(_word(given.replace('"', "")))
            continue
        if not found["value"]:
            raise InputError(
                f"the filter {given!r} has no value", hint=f'Nothing at all is {found["name"]}:"".'
            )
        one = _Token(bool(found["not"]), found["name"], found["how"], found["value"].replace('"', ""), given)
        pushed = _pushed(one, now) if one.name not in fields else None
        if pushed is None or pushed[0] in fields:
            checks.append(_check(one, now))
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


@dataclass(frozen=True, slots=True)
class _Token:
    """One part, without its quotes; `text` is as it was written."""

    is_not: bool
    name: str
    how: str
    value: str
    text: str


def _word(word: str) -> Check:
    wanted = word.lower()
    return lambda row: any(wanted in text.lower() for text in (row.work_id, row.step, row.reason))


def _check_slip(found: re.Match[str] | None, given: str) -> None:
    """Refuse `statee:failed`, which as a plain word would be found nowhere."""
    nearest = difflib.get_close_matches(found["name"], _NAMES, 1, cutoff=0.75) if found else []
    if nearest:
        raise InputError(
            f"the filter {given!r} is not understood", hint=f'Is it {nearest[0]}? As plain words: "{given}".'
        )


def _pushed(one: _Token, now: float) -> tuple[str, str | float] | None:
    """What the index can do of a token: the query's field and value."""
    name, how, value = one.name, one.how, one.value
    if one.is_not or _GLOB.search(value.removesuffix("*")):
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
        return "created_after", now - times.seconds(value, _told(one))
    return None


def _check(one: _Token, now: float) -> Check:
    check = _plain_check(one, now)
    return (lambda row: not check(row)) if one.is_not else check


def _plain_check(one: _Token, now: float) -> Check:
    name, how, value = one.name, one.how, one.value
    if name == "label" and how == ":":
        label, mark, wanted = value.partition("=")
        return lambda row: any(
            key == label and (not mark or fnmatchcase(text, wanted)) for key, text in row.labels
        )
    if name in _TEXTS and how == ":":
        if not _GLOB.search(value):
            _check_closed(name, value)
        text, pattern = _TEXTS[name], f"{value}*" if name == "id" and "*" not in value else value
        return lambda row: fnmatchcase(text(row), pattern)
    if name in _AGES and how in "<>":
        at, instant = _AGES[name], now - times.seconds(value, _told(one))
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
        f"the filter {one.text!r} is not understood",
        hint="Such as state:failed engine:demo -lane:low label:tenant=acme created<3d attempts>2",
    )


def _check_closed(name: str, value: str) -> None:
    """Refuse a state or lane that there is not."""
    if name in _CLOSED and value not in [member.value for member in _CLOSED[name]]:
        known = ", ".join(member.value for member in _CLOSED[name])
        raise InputError(f"there is no {name} {value!r}", hint=f"Known: {known}.")


def _told(one: _Token) -> str:
    """What an error calls a token."""
    return f"filter {one.name}{one.how}"
