"""The memory backend passes the contract; so it may stand in for the others."""

from __future__ import annotations

import pytest

from roost.storage.memory import MemoryBackend
from roost.storage.ports import Backend
from roost.testing.contract import (
    AccountsContract,
    ApprovalsContract,
    ArtifactsContract,
    AttemptsContract,
    BackendContract,
    BackendHarness,
    ChildrenContract,
    ClaimsContract,
    ConformanceContract,
    ControlContract,
    DeedsContract,
    DirectivesContract,
    EndlessContract,
    EndsContract,
    FlowsContract,
    IndexContract,
    JournalContract,
    LimitsContract,
    ManualHarness,
    ModelContract,
    OperationsContract,
    ParkingContract,
    QueueContract,
    SignalsContract,
)


class MemoryHarness(ManualHarness):
    """One process' memory: a second look is at the same object."""

    _last: MemoryBackend

    async def open(self) -> Backend:
        self._last = MemoryBackend(self.clock)
        return self.keep(self._last)

    async def reopen(self) -> Backend:
        return self._last

    async def damage(self, digest: str) -> None:
        content = bytearray(self._last.artifacts._blobs[digest])
        content[len(content) // 2] ^= 1
        self._last.artifacts._blobs[digest] = bytes(content)


@pytest.fixture
def harness() -> BackendHarness:
    return MemoryHarness()


class TestJournal(JournalContract):
    pass


class TestIndex(IndexContract):
    pass


class TestClaims(ClaimsContract):
    pass


class TestAccounts(AccountsContract):
    """See `AccountsContract`."""


class TestLimits(LimitsContract):
    pass


class TestQueue(QueueContract):
    pass


class TestAttempts(AttemptsContract):
    pass


class TestParking(ParkingContract):
    pass


class TestArtifacts(ArtifactsContract):
    pass


class TestBackend(BackendContract):
    pass


class TestControl(ControlContract):
    """See `ControlContract`."""


class TestSignals(SignalsContract):
    """See `SignalsContract`."""


class TestApprovals(ApprovalsContract):
    """See `ApprovalsContract`."""


class TestConformance(ConformanceContract):
    """See `ConformanceContract`."""


class TestChildren(ChildrenContract):
    """See `ChildrenContract`."""


class TestOperations(OperationsContract):
    """See `OperationsContract`."""


class TestDeeds(DeedsContract):
    """See `DeedsContract`."""


class TestDirectives(DirectivesContract):
    """See `DirectivesContract`."""


class TestFlows(FlowsContract):
    """See `FlowsContract`."""


class TestEndless(EndlessContract):
    """See `EndlessContract`."""


class TestEnds(EndsContract):
    """See `EndsContract`."""


@pytest.mark.slow
class TestModel(ModelContract):
    pass
