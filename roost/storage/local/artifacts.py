"""The artifact store port on files: `artifacts/ab/abcd…`, one per content."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO, TypeVar

from roost.errors import ArtifactNotFound, StorageCorrupt
from roost.storage.local.schema import storage_errors, sync_directory
from roost.storage.ports import Blob

T = TypeVar("T")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 18
_NEW = ".new-"  # how the names of blobs begin that are being written
LEFT_BEHIND_SECONDS = 86400.0  # nothing is written to a blob for so long, unless its writer died


class LocalArtifacts:
    """`ports.ArtifactStore`. A blob is written under a temporary name, synced, then renamed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._is_swept = False
        self._synced: set[Path] = set()  # directories whose names survive a power cut

    async def put(self, chunks: AsyncIterator[bytes] | Iterable[bytes]) -> Blob:
        part = await self._on_disk(_Part, self._directory, self._synced)
        try:
            if not self._is_swept:
                self._is_swept = True
                await self._on_disk(part.sweep)
            async for pieces in _gathered(chunks):
                await self._on_disk(part.write, pieces)
            blob = await self._on_disk(part.finish)
            await self._on_disk(part.place, self._directory / blob.digest[:2] / blob.digest)
        finally:
            part.discard()
        return blob

    async def _on_disk(self, work: Callable[..., T], *given: object) -> T:
        """Do work in a thread. Only its errors are the storage's, not those of the chunks' source."""
        with storage_errors(self._directory):
            return await asyncio.to_thread(work, *given)

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        path = self._path(digest)
        if path is None:
            raise ArtifactNotFound(f"{digest[:80]!r} is no digest of an artifact")
        with storage_errors(path):
            try:
                file = await asyncio.to_thread(path.open, "rb")
            except FileNotFoundError:
                raise ArtifactNotFound(f"no artifact {digest} in {self._directory}") from None
            with file:
                sha256, held = hashlib.sha256(), b""
                while chunk := await asyncio.to_thread(_read, file, sha256):
                    if held:
                        yield held
                    held = chunk
        if sha256.hexdigest() != digest:
            raise StorageCorrupt(
                f"artifact {digest} has other bytes than were stored: {path}",
                hint="Restore the file from a backup; other bytes are never given out.",
            )
        if held:
            yield held

    async def size(self, digest: str) -> int | None:
        path = self._path(digest)
        if path is None:
            return None
        with storage_errors(path):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return None

    def _path(self, digest: str) -> Path | None:
        """Where a blob is; None if this is no digest, and so names none."""
        return self._directory / digest[:2] / digest if _DIGEST.fullmatch(digest) else None


class _Part:
    """A blob that is being written. Its methods block, and run in a thread one at a time."""

    def __init__(self, directory: Path, synced: set[Path]) -> None:
        self._synced = synced
        _make(directory, synced)
        descriptor, name = mkstemp(prefix=_NEW, dir=directory)  # 0600, O_EXCL and O_NOFOLLOW
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0

    def sweep(self) -> None:
        """Remove what writers that were killed left behind. Old is what is much older than this
        new file: one clock, that of the file system."""
        before = os.fstat(self._file.fileno()).st_mtime - LEFT_BEHIND_SECONDS
        for other in self._path.parent.glob(f"{_NEW}*"):
            with suppress(OSError):  # another process sweeps, too
                if other.lstat().st_mtime < before:
                    other.unlink()

    def write(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._sha256.update(piece)
            self._size_bytes += len(piece)
            self._file.write(piece)

    def finish(self) -> Blob:
        self._file.flush()
        os.fsync(self._file.fileno())
        return Blob(self._sha256.hexdigest(), self._size_bytes)

    def place(self, final: Path) -> None:
        """Give the synced file its name. Where the same content has it already, this one
        takes its place: nothing changes for a reader, and damaged bytes are healed."""
        _make(final.parent, self._synced)
        self._path.replace(final)
        sync_directory(final.parent)

    def discard(self) -> None:
        """Leave nothing behind, unless the file got its name."""
        with suppress(OSError):  # a disk that is full can refuse the last buffered bytes again
            self._file.close()
        with suppress(OSError):
            self._path.unlink()


def _make(directory: Path, synced: set[Path]) -> None:
    """Make a directory, and make sure that its name survives a power cut.

    Also where it is there already: who made it may have been killed before it did that.

    Args:
        synced: those of which this process knows it; added to.
    """
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        if not directory.is_dir():
            raise
        if directory in synced:
            return
    sync_directory(directory.parent)
    synced.add(directory)


def _read(file: BinaryIO, sha256: hashlib._Hash) -> bytes:
    chunk = file.read(_CHUNK_BYTES)
    sha256.update(chunk)
    return chunk


async def _gathered(chunks: AsyncIterator[bytes] | Iterable[bytes]) -> AsyncIterator[list[bytes]]:
    """Chunks in groups of about `_CHUNK_BYTES`, so that small ones don't cost a thread each."""
    group: list[bytes] = []
    group_bytes = 0
    async for chunk in _each(chunks):
        group.append(chunk)
        group_bytes += len(chunk)
        if group_bytes >= _CHUNK_BYTES:
            yield group
            group, group_bytes = [], 0
    if group:
        yield group


async def _each(chunks: AsyncIterator[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterator):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
