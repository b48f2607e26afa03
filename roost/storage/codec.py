"""How entries and bodies become bytes, and back.

A stored entry is a handful of plain columns; a backend keeps them as it likes. The
format has a version: a reader refuses what it does not know instead of guessing.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import NamedTuple, get_args

import msgspec

from roost.errors import SchemaTooNew, StorageCorrupt
from roost.journal.entries import Body, Control, Encoding, Entry
from roost.journal.events import Event, Kind
from roost.storage import patch

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FORMAT = 1
COMPRESS_MIN_BYTES = 1024  # below it zstd saves little and costs a call
DELTA_DEPTH_MAX = 15  # a read decodes at most this many bodies before the one it wants
DELTA_WORTH = 0.2  # a delta that is not below this part of the JSON starts a new key frame
_LEVEL = 1  # measured on a growing 20-kB transcript: as small as level 3 at half the time
_WINDOW_LOG_MAX = 27  # what a decompressor takes by itself (zstd.h, ZSTD_WINDOWLOG_LIMIT_DEFAULT)
_HASH_LOG_MAX = 21  # a table of 8 MiB
_BODY_MAX_BYTES = 64 << 20  # nothing larger is ever unpacked

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
    if base is not None and base.depth < DELTA_DEPTH_MAX and len(base.raw) >= COMPRESS_MIN_BYTES:
        small = min(COMPRESS_MIN_BYTES, int(len(raw) * DELTA_WORTH))  # what compressing would gain little on
        edits = patch.diff(base.raw, raw, max_bytes=small)
        if edits is not None:
            return Body(Encoding.PATCH, edits, base=base.position, depth=base.depth + 1)
        options = _delta_options((len(base.raw) + len(raw)).bit_length())
        delta = zstd.compress(raw, options=options, zstd_dict=_prefix(base.raw))
        if len(delta) < len(raw) * DELTA_WORTH:
            return Body(Encoding.DELTA, delta, base=base.position, depth=base.depth + 1)
    return Body(Encoding.ZSTD, zstd.compress(raw, level=_LEVEL))


@cache
def _delta_options(bits: int) -> dict[int, int]:
    """How to look for what stayed: for long matches only, in all of two bodies of `bits` together.

    zstd's own window and table fit what it compresses, not the body before it; with them
    a change of 50 bytes in 1.5 MB took 280 kB, and a large table took its time to clear.
    """
    return {
        int(zstd.CompressionParameter.compression_level): _LEVEL,
        int(zstd.CompressionParameter.min_match): 7,
        int(zstd.CompressionParameter.window_log): min(bits, _WINDOW_LOG_MAX),
        int(zstd.CompressionParameter.hash_log): min(bits - 3, _HASH_LOG_MAX),
    }


def _prefix(base: bytes) -> tuple[zstd.ZstdDict, int]:
    """The body before as a prefix: a quarter of the time that a digested dictionary takes."""
    return zstd.ZstdDict(base, is_raw=True).as_prefix


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
        case Encoding.ZSTD:
            return _inflate(data, None)
        case Encoding.DELTA:
            return _inflate(data, _prefix(_there(base)))
        case Encoding.PATCH:
            return patch.apply(_there(base), data)


def _there(base: bytes | None) -> bytes:
    if base is None:
        raise StorageCorrupt("a delta has no base")
    return base


def _inflate(data: bytes, prefix: tuple[zstd.ZstdDict, int] | None) -> bytes:
    """Unpack one whole frame of at most `_BODY_MAX_BYTES`."""
    decompressor = zstd.ZstdDecompressor(zstd_dict=prefix)
    try:
        raw = decompressor.decompress(data, max_length=_BODY_MAX_BYTES)
    except zstd.ZstdError as error:
        raise StorageCorrupt(f"a body can't be unpacked: {error}") from error
    if not decompressor.eof:
        raise StorageCorrupt("a body is cut off, or larger than any that Roost writes")
    return raw
