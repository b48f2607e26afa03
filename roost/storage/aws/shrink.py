"""The control state of an entry in a quarter of its bytes: deflate with a dictionary.

An item is paid for by the kilobyte, and the control state was half of what an entry has
beside its body. Most of it are names that every entry has, and what its event says, too. So
it is compressed with those as what came before it: 240 bytes become 55, in 10 us. The event
stays JSON that everybody can read, since the table's stream is there for others.

The first byte says which dictionary it was. A dictionary never changes; a better one is
the next number, and the old one stays for reading.
"""

from __future__ import annotations

import zlib

from roost.errors import SchemaTooNew, StorageCorrupt

_WINDOW_BITS = -13  # raw deflate; 8 kB, beyond which few control states go
_MEMORY_LEVEL = 6
_LEVEL = 6
_CONTROL_MAX_BYTES = 4 << 20  # nothing larger is ever unpacked
_NEWEST = 1
_DICTIONARIES = {
    1: (
        b'"switches":[["line":[["bound":{"family":{"parent":{"work_id":"","ordinal":"key":"turn":{"labels":[['
        b'"rewound":"cancel_by":"cancel_requested":true,"paused_until":"paused":"","outbox":["once":[['
        b'"last_signal":"signals":[["budget":[["spent":[["usd","tokens",["steps",["seconds",'
        b'"deadline_at":"engine_version":"","waits":{"names":[""],"fails":true,"join":{},"until":'
        b'"reason":"waits for ","blocked_at":"failures":1,"interruptions":1,"lane":"high","lane":"low",'
        b'{"state":"cancelled",{"state":"failed",{"state":"blocked",{"state":"waiting","wake_at":17'
        b'{"state":"scheduled",{"state":"queued","engine":"","position":0,"created_at":17,"since":17,'
        b'{"state":"done","engine":"","position":3,"created_at":17,"since":17,"version":1,"step":"done",'
        b'"snapshot_position":2,"last_token":1,"sent_position":2}'
        b'{"state":"running","engine":"","position":2,"created_at":17,"since":17,"version":1,"step":"",'
        b'"snapshot_position":2,"lease":{"worker_id":"","token":1,"until":17}}'
    ),
}


def shrink(control: bytes, near: bytes) -> bytes:
    """The control state in fewer bytes.

    Args:
        near: what is stored beside it and says some of the same.
    """
    packer = zlib.compressobj(
        _LEVEL,
        zlib.DEFLATED,
        _WINDOW_BITS,
        _MEMORY_LEVEL,
        zlib.Z_DEFAULT_STRATEGY,
        _DICTIONARIES[_NEWEST] + near,
    )
    return bytes((_NEWEST,)) + packer.compress(control) + packer.flush()


def unshrink(data: bytes, near: bytes) -> bytes:
    """What `shrink` was given.

    Raises:
        SchemaTooNew: a newer Roost has packed it.
        StorageCorrupt: it gave nothing like this.
    """
    if not data:
        raise StorageCorrupt("a control state is packed as nothing")
    dictionary = _DICTIONARIES.get(data[0])
    if dictionary is None:
        raise SchemaTooNew(f"a control state is packed by dictionary {data[0]}", hint="Upgrade Roost.")
    unpacker = zlib.decompressobj(_WINDOW_BITS, zdict=dictionary + near)
    try:
        control = unpacker.decompress(data[1:], _CONTROL_MAX_BYTES)
    except zlib.error as error:
        raise StorageCorrupt(f"a control state can't be unpacked: {error}") from error
    if not unpacker.eof:
        raise StorageCorrupt("a control state is cut off, or larger than any that Roost writes")
    return control
