"""The one contract suite on every backend; a new one is added to `HARNESSES`."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.storage.local import open_local
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Backend
from roost.testing.contract import (
    ArtifactsContract,
    BackendHarness,
    ClaimsContract,
    EndToEndContract,
    IndexContract,
    JournalContract,
    ManualHarness,
    QueueContract,
)


class MemoryHarness(ManualHarness):
    """Bodies above 10 kB are spilled, so that the suite sees that, too."""

    def __init__(self, directory: Path) -> None:
        super().__init__()

    async def open(self) -> Backend:
        self._backend = MemoryBackend(self.clock, inline_max_bytes=10_000)
        return self._backend

    async def reopen(self) -> Backend:
        return self._backend

    async def damage(self, digest: str) -> None:
        blobs = self._backend.artifacts._blobs
        blobs[digest] = _flipped(blobs[digest])


class LocalHarness(ManualHarness):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._count = 0

    async def open(self) -> Backend:
        self._count += 1
        return await self.reopen()

    async def reopen(self) -> Backend:
        return self.keep(await open_local(self._directory / str(self._count), clock=self.clock))

    async def damage(self, digest: str) -> None:
        path = self._directory / str(self._count) / "artifacts" / digest[:2] / digest
        path.write_bytes(_flipped(path.read_bytes()))


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


HARNESSES = {"memory": MemoryHarness, "local": LocalHarness}


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> BackendHarness:
    return HARNESSES[request.param](tmp_path)


class TestJournal(JournalContract): ...


class TestIndex(IndexContract): ...


class TestClaims(ClaimsContract): ...


class TestQueue(QueueContract): ...


class TestArtifacts(ArtifactsContract): ...


class TestEndToEnd(EndToEndContract): ...
