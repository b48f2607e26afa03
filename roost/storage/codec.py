"""How entries and bodies become bytes, and back.

A stored entry is a handful of plain columns; a backend keeps them as it likes. The
format has a version: a reader refuses what it does not know instead of guessing.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

import msgspec

from roost.errors import SchemaTooNew, StorageCorrupt
from roost.journal.entries import Body, Control, Encoding, Entry
from roost.journal.events import Event, Kind
from roost.storage import patch

FORMAT = 1
COMPRESS_MIN_BYTES = 1024  # below it zstd saves little and costs a call
DELTA_DEPTH_MAX = 15  # a read decodes at most this many bodies before the one it wants
DELTA_WORTH = 0.2  # a delta that is not below this part of the JSON starts a new key frame

_EVENTS: dict[Kind, msgspec.json.Decoder[Event]] = {
    event.kind: msgspec.json.Decoder(event) for event in get_args(Event)
}
_KINDS = {kind: kind.value for kind in Kind}  # `value` of an enum's member is a call
ENCODINGS = {encoding: encoding.value for encoding in Encoding}
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
    if stored.format > FORMAT:
        raise SchemaTooNew(
            f"{where} has format {stored.format}; this Roost knows up to {FORMAT}", hint="Upgrade Roost."
        )
    try:
        kind = Kind(stored.kind)
        event = _EVENTS[kind].decode(stored.event)
        control = _CONTROL.decode(stored.control)
        body = _body(stored)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StorageCorrupt(f"{where} can't be read: {error}") from error
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


def _body(stored: StoredEntry) -> Body | None:
    if stored.body_encoding is None:
        return None
    return Body(
        encoding=Encoding(stored.body_encoding),
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
