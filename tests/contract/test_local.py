"""The local backend (SQLite and files) passes the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.storage.local import open_local
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


class LocalHarness(ManualHarness):
    """A directory for each store; a second backend on it is what another process opens."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._count = 0

    @property
    def home(self) -> Path:
        return self._directory / str(self._count)

    async def open(self) -> Backend:
        self._count += 1
        return await self.reopen()

    async def reopen(self) -> Backend:
        return self.keep(await open_local(self.home, clock=self.clock))

    async def damage(self, digest: str) -> None:
        [path] = (self.home / "artifacts").rglob(digest)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.fixture
def harness(tmp_path: Path) -> BackendHarness:
    return LocalHarness(tmp_path)


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
