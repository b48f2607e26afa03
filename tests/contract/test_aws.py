"""The AWS backend passes the contract, on two stand-ins that know nothing of each other."""

from __future__ import annotations

import pytest

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
    ModelContract,
    OperationsContract,
    ParkingContract,
    QueueContract,
    SignalsContract,
)
from tests.standins.harness import AwsHarness, point_sdk_at


class MinistackHarness(AwsHarness):
    """On ministack."""


class MotoHarness(AwsHarness):
    """On moto, which fails at the statements of group commit: `tests/aws/test_standins.py` shows it."""

    appends_in_flight = 256


HARNESSES: dict[str, type[AwsHarness]] = {"ministack": MinistackHarness, "moto": MotoHarness}


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BackendHarness:
    standin = request.getfixturevalue(request.param)
    point_sdk_at(standin, monkeypatch)
    monkeypatch.setattr("roost.storage.aws.expiry.DAYS_MAX", 16)  # 400 take seconds on a stand-in
    return HARNESSES[request.param](standin)


@pytest.mark.slow
class TestJournal(JournalContract):
    pass


@pytest.mark.slow
class TestIndex(IndexContract):
    pass


@pytest.mark.slow
class TestClaims(ClaimsContract):
    pass


@pytest.mark.slow
class TestAccounts(AccountsContract):
    """See `AccountsContract`."""


@pytest.mark.slow
class TestLimits(LimitsContract):
    pass


@pytest.mark.slow
class TestQueue(QueueContract):
    pass


@pytest.mark.slow
class TestAttempts(AttemptsContract):
    pass


@pytest.mark.slow
class TestParking(ParkingContract):
    pass


@pytest.mark.slow
class TestArtifacts(ArtifactsContract):
    pass


@pytest.mark.slow
class TestBackend(BackendContract):
    pass


@pytest.mark.slow
class TestControl(ControlContract):
    pass


@pytest.mark.slow
class TestSignals(SignalsContract):
    pass


@pytest.mark.slow
class TestApprovals(ApprovalsContract):
    pass


@pytest.mark.slow
class TestConformance(ConformanceContract):
    pass


@pytest.mark.slow
class TestChildren(ChildrenContract):
    pass


@pytest.mark.slow
class TestOperations(OperationsContract):
    pass


@pytest.mark.slow
class TestDeeds(DeedsContract):
    """See `DeedsContract`."""


class TestDirectives(DirectivesContract):
    pass


@pytest.mark.slow
class TestFlows(FlowsContract):
    """See `FlowsContract`."""


class TestEndless(EndlessContract):
    """See `EndlessContract`."""


class TestEnds(EndsContract):
    pass


@pytest.mark.slow
class TestModel(ModelContract):
    """Fewer programs than on the other backends: each makes a stack of its own."""

    examples = 3
    calls = 15
    shrinks = False
