"""zstd frames: a body compressed by itself, or with the body before it as its prefix.

Who has no body to compress does not import this: the library is 0.4 MB of a worker's memory.
"""

from __future__ import annotations

import sys
from functools import cache

from roost.errors import StorageCorrupt

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL = 1  # measured on a growing 20-kB transcript: as small as level 3 at half the time
_WINDOW_LOG_MAX = 27  # what a decompressor takes by itself (zstd.h, ZSTD_WINDOWLOG_LIMIT_DEFAULT)
_HASH_LOG_MAX = 21  # a table of 8 MiB
_BODY_MAX_BYTES = 64 << 20  # nothing larger is ever unpacked


def compress(raw: bytes) -> bytes:
    """A body as one frame."""
    return zstd.compress(raw, level=_LEVEL)


def delta(raw: bytes, base: bytes) -> bytes:
    """A body as a frame that says what changed since the body before."""
    options = _delta_options((len(base) + len(raw)).bit_length())
    return zstd.compress(raw, options=options, zstd_dict=_prefix(base))


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


def inflate(data: bytes, base: bytes | None = None) -> bytes:
    """Unpack one whole frame of at most `_BODY_MAX_BYTES`.

    Args:
        base: the body before, where the frame is a delta of it.

    Raises:
        StorageCorrupt: it is no such frame.
    """
    decompressor = zstd.ZstdDecompressor(zstd_dict=None if base is None else _prefix(base))
    try:
        raw = decompressor.decompress(data, max_length=_BODY_MAX_BYTES)
    except zstd.ZstdError as error:
        raise StorageCorrupt(f"a body can't be unpacked: {error}") from error
    if not decompressor.eof:
        raise StorageCorrupt("a body is cut off, or larger than any that Roost writes")
    return raw
