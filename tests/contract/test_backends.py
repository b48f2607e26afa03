"""The one contract suite on every backend; a new one is added to `HARNESSES`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.storage.local import LocalBackend, open_local
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Backend
from roost.testing.contract import (
    ArtifactsContract,
    BackendHarness,
    ClaimsContract,
    EndToEndContract,
    IndexContract,
    JournalContract,
    ManualClock,
    QueueContract,
)


class MemoryHarness(BackendHarness):
    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self._backend = MemoryBackend(self.clock, inline_max_bytes=10_000)

    async def open(self) -> Backend:
        return self._backend

    async def close(self) -> None:
        await self._backend.close()


class LocalHarness(BackendHarness):
    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self._directory = directory / "home"
        self._opened: list[LocalBackend] = []

    async def open(self) -> Backend:
        backend = await open_local(self._directory, clock=self.clock)
        self._opened.append(backend)
        return backend

    async def close(self) -> None:
        for backend in self._opened:
            await backend.close()


HARNESSES = {"memory": MemoryHarness, "local": LocalHarness}


@pytest.fixture(params=HARNESSES)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BackendHarness]:
    made = HARNESSES[request.param](tmp_path)
    yield made
    await made.close()


class TestJournal(JournalContract): ...


class TestIndex(IndexContract): ...


class TestClaims(ClaimsContract): ...


class TestQueue(QueueContract): ...


class TestArtifacts(ArtifactsContract): ...


class TestEndToEnd(EndToEndContract): ...
