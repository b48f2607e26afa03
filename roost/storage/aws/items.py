"""Entries of a journal as items of the journal table, and back.

Table: partition key `work`, sort key `position`. The columns of `codec.StoredEntry` are
attributes: `entry` (its id), `kind`, `version`, `at`, `actor`, `event` (JSON), `control` (JSON,
as `shrink.py` packs it), `body` (bytes), `encoding`, `base`, `blob` (digest), `depth`, `format`.
What has its usual value is left out: an item is paid for by the kilobyte.

Two more, `mark_key` and `mark_at`, put an entry into the sparse index `marks`: by day and
shard, the entries after which nobody holds the lease (it ended, or somebody outside wrote).
A step inside a burst has no mark, and so costs one write and not two.

And `kept` is on entries that work went back to, or was about to: their bodies are not dropped.
"""

from __future__ import annotations

from typing import Any

from roost.errors import UNREADABLE, StorageCorrupt
from roost.journal.entries import Encoding, Entry
from roost.storage.aws.names import shard_of
from roost.storage.aws.shrink import shrink, unshrink
from roost.storage.aws.table import Item, number_of
from roost.storage.codec import StoredEntry, check_format, decode_entry, encode_entry

KEPT = "kept"
BODY_ATTRIBUTES = ("body", "encoding", "base", "blob", "depth")
ENTRY_ATTRIBUTES = (
    "work",
    "position",
    "entry",
    "kind",
    "version",
    "at",
    "actor",
    "event",
    "control",
    "format",
)
"""All others that `entry_of` reads: an entry without its body."""
_OTHER_BYTES_MAX = 1024  # of all attributes but event, control state and body
_CHARACTER_BYTES_MAX = 4  # of UTF-8
_USUAL_ENCODING = Encoding.JSON.value  # what a body without `encoding` has
_FIRST_FORMAT = 1  # what an item without `format` has
_DAY_SECONDS = 86_400


def item_of(entry: Entry, shards: int) -> Item:
    """The item of an entry.

    Args:
        shards: over how many partitions the marks of a day are spread (`Names.shards`).
    """
    stored = encode_entry(entry)
    item: Item = {
        "work": {"S": stored.work_id},
        "position": {"N": str(stored.position)},
        "entry": {"S": stored.entry_id},
        "kind": {"S": stored.kind},
        "version": {"N": str(stored.version)},
        "at": number_of(stored.at),
        "actor": {"S": stored.actor},
        "event": {"S": stored.event.decode()},
        "control": {"B": shrink(stored.control, _near(stored.actor, stored.event))},
    }
    if stored.body_encoding is not None:
        _add_body(item, stored)
    if stored.format != _FIRST_FORMAT:
        item["format"] = {"N": str(stored.format)}
    if entry.position > 0 and entry.control.lease is None:  # new work is found by its index row
        item["mark_key"] = {"S": mark_key(day_of(entry.at), shard_of(entry.work_id, shards))}
        item["mark_at"] = item["at"]
    return item


def _add_body(item: Item, stored: StoredEntry) -> None:
    if stored.body_encoding != _USUAL_ENCODING or not stored.body:
        item["encoding"] = {"S": stored.body_encoding}
    if stored.body:
        item["body"] = {"B": stored.body}
    if stored.body_base is not None:
        item["base"] = {"N": str(stored.body_base)}
    if stored.body_digest is not None:
        item["blob"] = {"S": stored.body_digest}
    if stored.body_depth:
        item["depth"] = {"N": str(stored.body_depth)}


def entry_of(item: Item) -> Entry:
    """The entry of an item.

    Raises:
        SchemaTooNew: a newer Roost wrote it.
        StorageCorrupt: it makes no entry.
    """
    where = "entry {} of {}".format(*(_any(item, name) for name in ("position", "work")))
    try:
        check_format(_number(item, "format", _FIRST_FORMAT) or _FIRST_FORMAT, where)
        event, actor = item["event"]["S"].encode(), item["actor"]["S"]
        encoding = _get(item, "encoding", "S")
        if encoding is None and "body" in item:
            encoding = _USUAL_ENCODING
        stored = StoredEntry(
            work_id=item["work"]["S"],
            position=int(item["position"]["N"]),
            entry_id=item["entry"]["S"],
            kind=item["kind"]["S"],
            version=int(item["version"]["N"]),
            at=float(item["at"]["N"]),
            actor=actor,
            event=event,
            control=_unpacked(item["control"]["B"], _near(actor, event), where),
            body=_get(item, "body", "B"),
            body_encoding=encoding,
            body_base=_number(item, "base", None),
            body_digest=_get(item, "blob", "S"),
            body_depth=_number(item, "depth", 0) or 0,
            format=_number(item, "format", _FIRST_FORMAT) or _FIRST_FORMAT,
        )
    except (KeyError, ValueError) as error:
        raise StorageCorrupt(f"{where} can't be read: {error!r}") from error
    return decode_entry(stored)


def _unpacked(data: bytes, near: bytes, where: str) -> bytes:
    """A control state, as `unshrink` gives it; what that raises says of which entry."""
    try:
        return unshrink(data, near)
    except UNREADABLE as error:
        raise type(error)(f"{where}: {error}", hint=error.hint) from error


def _near(actor: str, event: bytes) -> bytes:
    """What an item says beside its control state, and that does, too."""
    return actor.encode() + event


def _get(item: Item, name: str, kind: str) -> Any:
    found = item.get(name)
    return None if found is None else found[kind]


def _number(item: Item, name: str, default: int | None) -> int | None:
    found = item.get(name)
    return default if found is None else int(found["N"])


def _any(item: Item, name: str) -> str:
    return str(next(iter(item.get(name, {"?": "?"}).values())))


def key_of(item: Item) -> Item:
    """The key attributes of an item."""
    return {"work": item["work"], "position": item["position"]}


def size_of(item: Item) -> int:
    """About how many bytes an item has; never fewer than it has."""
    body = item.get("body")
    data = len(item["control"]["B"]) + (0 if body is None else len(body["B"]))
    return _OTHER_BYTES_MAX + len(item["event"]["S"]) * _CHARACTER_BYTES_MAX + data


def day_of(at: float) -> int:
    """The number of the UTC day of an instant."""
    return int(at // _DAY_SECONDS)


def mark_key(day: int, shard: int) -> str:
    """Partition key of the index `marks`: of all namespaces, since the feed is of all journals."""
    return f"{day}#{shard}"
