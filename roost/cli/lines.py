"""New work from the command line, and from JSON Lines: what a line may say, and what it becomes.

All lines are checked before the first is stored, and there may be more of them than fit into
memory: what was checked waits in a temporary file.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from roost import times
from roost.cli.output import say
from roost.errors import EngineNotFound, InputError, RoostError
from roost.names import IfBusy, Scope

if TYPE_CHECKING:
    from roost.core.new_work import NewWork
    from roost.engine import EngineRegistry

EngineOptions = dict[str, dict[str, Any]]
"""Settings of engines, by name."""

LINES_MAX = 1_000_000
LINE_MAX_BYTES = 2 << 20
IN_MEMORY_MAX_BYTES = 4 << 20  # of checked work; more goes to a temporary file
BOM = b"\xef\xbb\xbf"  # editors on Windows begin files with it
_DIGEST_BYTES = 16

Placed = tuple[str, "NewWork"]
"""New work, and words that name the line it is of."""


def opened(name: str, option: str) -> AbstractContextManager[IO[bytes]]:
    """A file, or standard input (`-`).

    Raises:
        InputError: it can't be opened.
    """
    if not name:
        raise InputError(f"{option} names no file", hint=f"Write {option} @FILE, or - for standard input.")
    if name == "-" and sys.stdin.isatty():
        say(f"{option} is read from the terminal; Ctrl-D ends it")
    try:
        return nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb")
    except OSError as error:
        raise InputError(f"{option}: {name}: {error.strerror}") from None


def read_lines(file: IO[bytes], engine: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of each line that is not blank, and words that name the line.

    Args:
        engine: of the lines that name none.

    Raises:
        InputError: a line can't be read, is no object, is too long or has an unknown key; there are too many.
    """
    from roost import jsonio

    defaults = {} if engine is None else {"engine": engine}
    for number in count(1):
        try:
            line = file.readline(LINE_MAX_BYTES + 1)
        except OSError as error:
            raise InputError(f"line {number} can't be read: {error.strerror}") from None
        if not line:
            return
        if number == 1:
            line = line.removeprefix(BOM)
        if not line.strip():
            continue
        if number > LINES_MAX:
            raise InputError(f"line {number}: more than {LINES_MAX} lines", hint="Split the file.")
        try:
            fields = jsonio.parse_object(line, what=f"line {number}", max_bytes=LINE_MAX_BYTES)
        except InputError as error:
            text = str(error).replace(" at line 1, column ", " at column ")
            raise InputError(text, hint="Each line is a JSON object with a `payload`.") from None
        if unknown := fields.keys() - _KEYS:
            raise InputError(
                f"line {number}: unknown key {min(unknown)!r}",
                hint=f"Known: {', '.join(sorted(_KEYS))}. What the engine is given goes into `payload`.",
            )
        yield f"line {number}: ", defaults | fields


class Checker:
    """Turns fields into new work.

    Args:
        now: what a delay or deadline counts from.
        engine_options: for the engines that are installed, which check payloads; None: they are
            installed elsewhere.
    """

    def __init__(self, now: float, engine_options: EngineOptions | None) -> None:
        self._now = now
        self._options = engine_options
        self._loaded: dict[str, EngineRegistry] = {}

    def new_work(self, where: str, fields: dict[str, Any]) -> NewWork:
        """The new work that fields describe.

        Raises:
            InputError: a field is missing or wrong; the message begins with `where`.
            EngineNotFound: its engine is not installed here.
        """
        try:
            return self._new_work(fields)
        except RoostError as error:
            raise at_line(where, error) from None

    def _new_work(self, fields: dict[str, Any]) -> NewWork:
        from roost import jsonio
        from roost.core.new_work import NewWork, check_new_work

        engine = _text("engine", fields.get("engine") or "", self._now)
        if not engine:
            raise InputError("no engine is named", hint="Add --engine NAME; `roost engines` lists them.")
        payload = fields.get("payload", {})
        if not isinstance(payload, dict):
            raise InputError(f"`payload` is {jsonio.kind_of(payload)}, not a JSON object")
        others = {
            _FIELDS[key][0]: _FIELDS[key][1](key, value, self._now)
            for key, value in fields.items()
            if value is not None and key in _FIELDS
        }
        work = NewWork(engine, payload, **others)
        check_new_work(work, self._now)
        if self._options is not None:
            self._check_payload(engine, work.payload, self._options)
        return work

    def _check_payload(self, engine: str, payload: dict[str, Any], options: EngineOptions) -> None:
        if engine not in self._loaded:
            with redirect_stdout(sys.stderr):  # stdout is for ids, whatever an engine prints
                self._loaded[engine] = _load(engine, options)
        spec = self._loaded[engine].get(engine)
        if spec is None:
            ids = ", ".join(spec.engine_id for spec in self._loaded[engine])
            raise EngineNotFound(
                f"the engine installed as {engine!r} calls itself {ids!r}",
                hint=f"Workers know it by that name: --engine {ids} --any-engine",
            )
        spec.check_payload(payload)


def _load(engine: str, options: EngineOptions) -> EngineRegistry:
    from roost.loading import installed_engines, load_engines

    installed = installed_engines()
    if engine not in installed:
        raise EngineNotFound(
            f"no engine {engine!r} is installed here",
            hint=f"Installed: {', '.join(sorted(installed)) or 'none'}. For workers "
            "elsewhere, or that run it as module:attribute, give its engine_id and --any-engine.",
        )
    return load_engines(engine, options)


def at_line(where: str, error: RoostError) -> RoostError:
    """An error that says which line it is of."""
    if where:
        error.args = (f"{where}{error}",)
    return error


class OwnNames:
    """Ids and keys of the lines' own, each of which stands for one work item."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[str, bytes]] = {}

    def __bool__(self) -> bool:
        return bool(self._seen)

    def watch(self, placed: Iterable[Placed]) -> Iterator[Placed]:
        """Pass work on.

        Raises:
            InputError: an id or key has other content than on a line before.
        """
        for where, work in placed:
            if work.work_id is not None or work.idempotency_key is not None:
                self._see(where, work)
            yield where, work

    def _see(self, where: str, work: NewWork) -> None:
        from msgspec import json

        from roost.core.client import OF_ONE_KEY

        def digest(value: object) -> bytes:
            text = json.encode(value, order="deterministic")
            return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()

        own, engine = work.work_id or work.idempotency_key, None if work.work_id else work.engine
        content = digest([getattr(work, name) for name in OF_ONE_KEY])
        line, stands = self._seen.setdefault(digest([engine, own]), (where, content))
        if stands != content:
            raise InputError(
                f"{where}{own!r} is of {line.removesuffix(': ')}, too, with other content",
                hint="An id or a key stands for one work item. Nothing was stored.",
            )


@contextmanager
def set_aside(placed: Iterable[Placed]) -> Iterator[Callable[[], Iterator[Placed]]]:
    """Go through all new work, and give it again from the start, as often as asked, in little memory.

    Raises:
        InputError: there is no room for it.
    """
    from msgspec import json

    from roost.core.new_work import NewWork

    encode, decode = json.Encoder().encode, json.Decoder(tuple[str, NewWork]).decode
    with tempfile.SpooledTemporaryFile(IN_MEMORY_MAX_BYTES) as file:

        def again() -> Iterator[Placed]:
            file.seek(0)
            return map(decode, file)

        for one in placed:
            line = encode(one) + b"\n"
            try:
                file.write(line)
            except OSError as error:
                raise InputError(
                    f"{tempfile.gettempdir()} can't hold what was checked: {error.strerror}",
                    hint="Set TMPDIR to a directory with more room, or split the file.",
                ) from None
        yield again


# --- what a line may say -------------------------------------------------------------


def _text(key: str, value: Any, now: float) -> str:
    if not isinstance(value, str):
        raise InputError(f"`{key}` is not text")
    return value


def _whole_number(key: str, value: Any, now: float) -> int:
    if type(value) is not int:
        raise InputError(f"`{key}` is not a whole number")
    return value


def _duration(key: str, value: Any, now: float) -> float:
    return times.seconds(value, key.replace("_", " "))


def _instant(key: str, value: Any, now: float) -> float:
    return times.instant(value, now, key)


def _texts(key: str, value: Any, now: float) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InputError(f"`{key}` is not a list of texts")
    return tuple(value)


def _object_of(types: tuple[type, ...], what: str) -> Callable[[str, Any, float], dict[str, Any]]:
    def read(key: str, value: Any, now: float) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(type(one) in types for one in value.values()):
            raise InputError(f"`{key}` is not an object of {what}")
        return value

    return read


def _one_of(choices: type[Scope] | type[IfBusy]) -> Callable[[str, Any, float], Scope | IfBusy]:
    def read(key: str, value: Any, now: float) -> Scope | IfBusy:
        try:
            return choices(value)
        except ValueError:
            names = ", ".join(choices)
            raise InputError(f"`{key}` is {value!r}, not one of {names}") from None

    return read


_FIELDS: dict[str, tuple[str, Callable[[str, Any, float], Any]]] = {
    "resources": ("resources", _texts),
    "capacities": ("capacities", _object_of((int,), "whole numbers")),
    "resource_scope": ("resource_scope", _one_of(Scope)),
    "delay": ("delay_seconds", _duration),
    "priority": ("priority", _whole_number),
    "deadline": ("deadline_at", _instant),
    "budget": ("budget", _object_of((int, float), "numbers")),
    "family_budget": ("family_budget", _object_of((int, float), "numbers")),
    "labels": ("labels", _object_of((str,), "texts")),
    "idempotency_key": ("idempotency_key", _text),
    "idempotency_time": ("idempotency_seconds", _duration),
    "work_id": ("work_id", _text),
    "conversation": ("conversation", _text),
    "if_busy": ("if_busy", _one_of(IfBusy)),
}
"""What a line may say beside `engine` and `payload`: what `NewWork` calls it, and how it is read."""

_KEYS = frozenset({"engine", "payload", *_FIELDS})
