"""The artifact store port on files: `artifacts/ab/abcd…`, one per content."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from roost.errors import ArtifactNotFound, InputError, StorageCorrupt
from roost.storage.local.schema import storage_errors
from roost.storage.ports import Blob

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 18


class LocalArtifacts:
    """`ports.ArtifactStore`. A blob is written under a temporary name, synced, then renamed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, chunks: AsyncIterator[bytes] | Iterable[bytes]) -> Blob:
        with storage_errors(self._directory):
            descriptor, name = await asyncio.to_thread(self._open_temporary)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    sha256, size = hashlib.sha256(), 0
                    async for chunk in _each(chunks):
                        sha256.update(chunk)
                        size += len(chunk)
                        await asyncio.to_thread(file.write, chunk)
                    await asyncio.to_thread(_sync, file.fileno(), file.flush)
                blob = Blob(sha256.hexdigest(), size)
                await asyncio.to_thread(self._place, temporary, blob)
            finally:
                with suppress(FileNotFoundError):
                    temporary.unlink()
        return blob

    def _open_temporary(self) -> tuple[int, str]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return mkstemp(prefix=".new-", dir=self._directory)

    def _place(self, temporary: Path, blob: Blob) -> None:
        """Give a synced file its name, unless the same content has it already."""
        final = self._path(blob.digest)
        with suppress(FileNotFoundError):
            if final.stat().st_size == blob.size_bytes:
                return  # a file of another size is torn; it is replaced below
        final.parent.mkdir(mode=0o700, exist_ok=True)
        temporary.replace(final)
        for directory in (final.parent, self._directory):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        path = self._path(digest)
        with storage_errors(path):
            try:
                file = await asyncio.to_thread(path.open, "rb")
            except FileNotFoundError:
                raise ArtifactNotFound(f"no artifact {digest} in {self._directory}") from None
            with file:
                sha256, held = hashlib.sha256(), b""
                while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                    sha256.update(chunk)
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
        with storage_errors(path):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return None

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise InputError(f"{digest[:80]!r} is no digest", hint="A digest is 64 hexadecimal digits.")
        return self._directory / digest[:2] / digest


async def _each(chunks: AsyncIterator[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterator):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


def _sync(descriptor: int, flush: object) -> None:
    assert callable(flush)
    flush()
    os.fsync(descriptor)
