"""How entries and bodies become bytes, and back.

A stored entry is a handful of plain columns; a backend keeps them as it likes. The
format has a version: a reader refuses what it does not know instead of guessing.

Older workers run beside newer ones. So what `FORMAT` stands for grows in one way only: by fields
that may be left out, and whose loss is no harm. A reader that does not know one skips it, and the
entry that it writes next is without it (`tests/unit/test_formats.py` says of each why). All else is the
next number: a new kind, state or encoding, or a field that must not be lost. Who appends has read
the entry before, so the numbers of a journal never fall: where its tail can be read, all of it can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar, get_args

import msgspec

from roost.errors import UNREADABLE, SchemaTooNew, StorageCorrupt, StorageError
from roost.journal.entries import Body, Control, Encoding, Entry
from roost.journal.events import Event, Kind
from roost.storage import patch

T = TypeVar("T")

log = logging.getLogger("roost.storage")

FORMAT = 1
COMPRESS_MIN_BYTES = 1024  # below it zstd saves little and costs a call
DELTA_DEPTH_MAX = 15  # a read decodes at most this many bodies before the one it wants
DELTA_WORTH = 0.2  # a delta that is not below this part of the JSON starts a new key frame

_EVENTS: dict[str, msgspec.json.Decoder[Event]] = {
    event.kind.value: msgspec.json.Decoder(event) for event in get_args(Event)
}
_KINDS = {kind: kind.value for kind in Kind}  # `value` of an enum's member is a call
ENCODINGS = {encoding: encoding.value for encoding in Encoding}
_ENCODINGS = {text: encoding for encoding, text in ENCODINGS.items()}
_CONTROL = msgspec.json.Decoder(Control)
to_json = msgspec.json.Encoder().encode  # of an event or a control state, without default values


class StoredEntry(NamedTuple):
    """An entry as columns. `event` and `control` are JSON without default values."""

    work_id: str
    position: int
    entry_id: str
    kind: str
    version: int
    at: float
    actor: str
    event: bytes
    control: bytes
    body: bytes | None = None
    body_encoding: str | None = None
    body_base: int | None = None
    body_digest: str | None = None
    body_depth: int = 0
    format: int = FORMAT


def encode_entry(entry: Entry) -> StoredEntry:
    """The columns of an entry."""
    event, control, body = entry.event, entry.control, entry.body
    columns = (
        entry.work_id,
        entry.position,
        entry.entry_id,
        _KINDS[event.kind],
        control.version,
        entry.at,
        entry.actor,
        to_json(event),
        to_json(control),
        *(_NO_BODY if body is None else _of_body(body)),
        FORMAT,
    )
    return StoredEntry._make(columns)  # `StoredEntry(…)` takes as long as all the rest


_NO_BODY = (None, None, None, None, 0)


def _of_body(body: Body) -> tuple[bytes, str, int | None, str | None, int]:
    return body.data, ENCODINGS[body.encoding], body.base, body.digest, body.depth


def decode_entry(stored: StoredEntry) -> Entry:
    """The entry of stored columns.

    Raises:
        SchemaTooNew: a newer Roost wrote it.
        StorageCorrupt: the columns make no entry.
    """
    where = f"entry {stored.position} of {stored.work_id}"
    check_format(stored.format, where)
    if (decoder := _EVENTS.get(stored.kind)) is None:
        raise _too_new(f"{where} is of kind {stored.kind!r}, which this Roost does not know")
    try:
        event = decoder.decode(stored.event)
        control = _CONTROL.decode(stored.control)
    except (msgspec.MsgspecError, ValueError) as error:
        raise unreadable(where, error) from error
    body = _body(stored, where)
    return Entry(
        work_id=stored.work_id,
        position=stored.position,
        entry_id=stored.entry_id,
        at=stored.at,
        actor=stored.actor,
        event=event,
        control=control,
        body=body,
    )


def check_format(number: int, where: str) -> None:
    """Refuse what a newer Roost wrote, before anything of it is read.

    Raises:
        SchemaTooNew: it has a later format; the message names both.
    """
    if number > FORMAT:
        raise _too_new(f"{where} has format {number}; this Roost knows up to {FORMAT}")


def unreadable(where: str, error: Exception) -> StorageError:
    """What an error of msgspec or of an enum says of stored values.

    A word where an enum has none is of a newer Roost, as far as anybody can tell: damage seldom makes words.
    """
    if str(error).startswith("Invalid enum value") or "is not a valid" in str(error):
        return _too_new(f"{where} has what this Roost does not know: {error}")
    return StorageCorrupt(f"{where} can't be read: {error}")


def _too_new(text: str) -> SchemaTooNew:
    return SchemaTooNew(text, hint="Upgrade Roost.")


def those_readable(decode: Callable[[T], Entry], stored: Iterable[T]) -> list[Entry]:
    """Of entries of many journals those that can be read; of each other one the log says why not."""
    found = []
    for one in stored:
        try:
            found.append(decode(one))
        except UNREADABLE as error:
            tell_left_out(error)
    return found


def tell_left_out(error: StorageError) -> None:
    """Say why a page of all that happened lacks something."""
    log.warning("left out of the feed: %s", error, extra={"event": "feed.unreadable"})


def _body(stored: StoredEntry, where: str) -> Body | None:
    if stored.body_encoding is None:
        return None
    if (encoding := _ENCODINGS.get(stored.body_encoding)) is None:
        raise _too_new(f"{where} has a body in {stored.body_encoding!r}, which this Roost does not know")
    return Body(
        encoding=encoding,
        data=stored.body or b"",
        base=stored.body_base,
        digest=stored.body_digest,
        depth=stored.body_depth,
    )


class Base(msgspec.Struct, frozen=True, gc=False):
    """A body that a next one can be a delta of: where it is, and its JSON."""

    position: int
    raw: bytes
    depth: int


def pack(raw: bytes, base: Base | None = None) -> Body:
    """Compress a JSON document where it pays.

    Args:
        raw: the JSON.
        base: the snapshot before, to say only what changed; not used once the chain is long.
    """
    if len(raw) < COMPRESS_MIN_BYTES:
        return Body(Encoding.JSON, raw)
    if base is not None and (changes := _changes(raw, base)) is not None:
        return changes
    from roost.storage.frames import compress  # here as below: a worker with small states has no use for it

    return Body(Encoding.ZSTD, compress(raw))


def _changes(raw: bytes, base: Base) -> Body | None:
    """A body as what changed since the one before; None if that is not worth it."""
    if base.depth >= DELTA_DEPTH_MAX or len(base.raw) < COMPRESS_MIN_BYTES:
        return None
    small = min(COMPRESS_MIN_BYTES, int(len(raw) * DELTA_WORTH))  # what compressing would gain little on
    edits = patch.diff(base.raw, raw, max_bytes=small)
    if edits is not None:
        return Body(Encoding.PATCH, edits, base=base.position, depth=base.depth + 1)
    from roost.storage.frames import delta

    frame = delta(raw, base.raw)
    if len(frame) >= len(raw) * DELTA_WORTH:
        return None
    return Body(Encoding.DELTA, frame, base=base.position, depth=base.depth + 1)


def unpack(body: Body, data: bytes, base: bytes | None = None) -> bytes:
    """The JSON of a stored body.

    Args:
        body: says how it is encoded.
        data: its bytes (those of the blob, where it is spilled).
        base: the JSON that it is a delta or a patch of.

    Raises:
        StorageCorrupt: the bytes are not what was written.
    """
    match body.encoding:
        case Encoding.JSON:
            return data
        case Encoding.PATCH:
            return patch.apply(_there(base), data)
    from roost.storage.frames import inflate

    return inflate(data, _there(base) if body.encoding is Encoding.DELTA else None)


def _there(base: bytes | None) -> bytes:
    if base is None:
        raise StorageCorrupt("a delta has no base")
    return base
