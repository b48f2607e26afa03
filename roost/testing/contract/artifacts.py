"""The contract of `ports.ArtifactStore`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import cache

import pytest

from roost.errors import ArtifactNotFound, RoostError, StorageCorrupt
from roost.storage.ports import ArtifactStore, Backend, Blob
from roost.testing.contract.harness import BackendHarness, Contract

_LARGE = 5_000_000
_NO_DIGESTS = (
    "",
    "abc",
    "../../etc/passwd",
    "A" * 64,
    "g" * 64,
    "0" * 63,
    "0" * 65,
    "0" * 64 + "\n",
    "é" * 64,
)


async def read(store: ArtifactStore, digest: str) -> bytes:
    return b"".join([chunk async for chunk in store.read(digest)])


def blob_of(content: bytes) -> Blob:
    return Blob(hashlib.sha256(content).hexdigest(), len(content))


@cache
def large() -> bytes:
    """5 MB that no compression helps, the same at each call."""
    return b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(_LARGE // 32))


async def in_pieces(content: bytes, piece_bytes: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), piece_bytes):
        yield content[start : start + piece_bytes]
        await asyncio.sleep(0)


class ArtifactsContract(Contract):
    """Blobs named by the SHA-256 of their content."""

    async def test_what_is_read_is_what_was_put(self, backend: Backend, harness: BackendHarness) -> None:
        content = bytes(range(256)) * 10
        blob = await backend.artifacts.put([content])
        assert blob == blob_of(content)
        other = await harness.reopen()
        for store in (backend.artifacts, other.artifacts):
            assert await read(store, blob.digest) == content
            assert await store.size(blob.digest) == len(content)

    async def test_the_empty_blob_is_a_blob(self, backend: Backend) -> None:
        for chunks in ([], [b""], [b"", b""]):
            assert await backend.artifacts.put(chunks) == blob_of(b"")
        assert await read(backend.artifacts, blob_of(b"").digest) == b""
        assert await backend.artifacts.size(blob_of(b"").digest) == 0

    async def test_chunks_of_any_kind_make_the_same_blob(self, backend: Backend) -> None:
        content = b"abcdefghij" * 100
        put = backend.artifacts.put
        assert await put([content]) == await put(in_pieces(content, 7)) == blob_of(content)
        assert await put(content[start : start + 3] for start in range(0, 1000, 3)) == blob_of(content)
        assert await put(in_pieces(b"", 7)) == blob_of(b"")

    async def test_writing_one_twice_is_one_blob(self, backend: Backend) -> None:
        blobs = await asyncio.gather(*(backend.artifacts.put([b"same"]) for _ in range(8)))
        assert set(blobs) == {blob_of(b"same")}
        assert await read(backend.artifacts, blobs[0].digest) == b"same"

    async def test_a_large_blob_streams_in_and_out(self, backend: Backend) -> None:
        content = large()
        blob = await backend.artifacts.put(in_pieces(content, 100_000))
        assert blob == blob_of(content)
        chunks = [chunk async for chunk in backend.artifacts.read(blob.digest)]
        assert b"".join(chunks) == content
        assert len(chunks) > 1
        assert all(chunks)

    async def test_there_is_no_blob_that_was_not_put(self, backend: Backend) -> None:
        digest = blob_of(b"never put").digest
        assert await backend.artifacts.size(digest) is None
        chunks = aiter(backend.artifacts.read(digest))
        with pytest.raises(ArtifactNotFound):  # before the first chunk
            await anext(chunks)

    async def test_a_text_that_is_no_digest_names_no_blob(self, backend: Backend) -> None:
        await backend.artifacts.put([b"something"])
        for text in _NO_DIGESTS:
            assert await backend.artifacts.size(text) is None
            with pytest.raises(ArtifactNotFound):
                await read(backend.artifacts, text)

    async def test_a_blob_is_stored_whole_or_not_at_all(self, backend: Backend) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * 300_000
            raise ConnectionError("the source went away")

        with pytest.raises(ConnectionError):
            await backend.artifacts.put(broken())
        assert await backend.artifacts.size(blob_of(b"x" * 300_000).digest) is None

    @pytest.mark.parametrize("size", [1, 1000, _LARGE])
    async def test_damaged_bytes_are_never_given_whole(
        self, backend: Backend, harness: BackendHarness, size: int
    ) -> None:
        """A reader that got all chunks got the true bytes; here none gets all."""
        content = large()[:size]
        blob = await backend.artifacts.put([content])
        await harness.damage(blob.digest)
        got: list[bytes] = []
        with pytest.raises(StorageCorrupt):  # noqa: PT012  the loop is what raises
            async for chunk in backend.artifacts.read(blob.digest):
                got.append(chunk)  # noqa: PERF401  what came before the error counts
        assert len(b"".join(got)) < len(content)

    async def test_a_reader_may_stop_early(self, backend: Backend) -> None:
        blob = await backend.artifacts.put([large()])
        reader = backend.artifacts.read(blob.digest)
        assert large().startswith(await anext(aiter(reader)))
        await reader.aclose()  # type: ignore[attr-defined]  # all are generators in practice
        assert await backend.artifacts.size(blob.digest) == len(large())

    async def test_readers_do_not_disturb_each_other(self, backend: Backend) -> None:
        contents = [b"%d" % number * 50_000 for number in range(6)]
        blobs = [await backend.artifacts.put([content]) for content in contents]
        assert await asyncio.gather(*(read(backend.artifacts, blob.digest) for blob in blobs)) == contents

    async def test_an_error_of_the_store_is_one_of_roost(self, backend: Backend) -> None:
        with pytest.raises(RoostError) as caught:
            await read(backend.artifacts, "0" * 64)
        assert "0" * 64 in str(caught.value)
