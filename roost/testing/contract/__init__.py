"""The contract suite: what every storage backend has to do, as tests.

A backend is done when this suite is green on it. Bind it in a test module of your own:

    from roost.testing.contract import BackendHarness, JournalContract, …

    @pytest.fixture
    def harness(tmp_path):
        return MyHarness(tmp_path)  # a BackendHarness

    class TestJournal(JournalContract): ...
    class TestIndex(IndexContract): ...
    class TestClaims(ClaimsContract): ...
    class TestAccounts(AccountsContract): ...
    class TestQueue(QueueContract): ...
    class TestArtifacts(ArtifactsContract): ...
    class TestBackend(BackendContract): ...
    class TestSignals(SignalsContract): ...
    class TestConformance(ConformanceContract): ...
    class TestApprovals(ApprovalsContract): ...
    class TestChildren(ChildrenContract): ...
    class TestEndless(EndlessContract): ...
    class TestEnds(EndsContract): ...
    class TestModel(ModelContract): ...
    class TestDeeds(DeedsContract): ...

No test is skipped: where backends may differ, the harness declares it, and the test reads
that. It needs pytest, pytest-asyncio and hypothesis.
"""

import pytest

_MODULES = (
    "accounts",
    "harness",
    "journal",
    "index",
    "claims",
    "conformance",
    "limits",
    "queue",
    "artifacts",
    "attempts",
    "backend",
    "control",
    "deeds",
    "directives",
    "approvals",
    "signals",
    "children",
    "flows",
    "endless",
    "ends",
    "machine",
    "claims_model",
    "model",
    "operations",
    "parking",
    "process",
    "samples",
)
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _MODULES))

from roost.testing.clock import ManualClock  # noqa: E402  after the line that shows asserts in full
from roost.testing.contract.accounts import AccountsContract  # noqa: E402
from roost.testing.contract.approvals import ApprovalsContract  # noqa: E402
from roost.testing.contract.artifacts import ArtifactsContract  # noqa: E402
from roost.testing.contract.attempts import AttemptsContract  # noqa: E402
from roost.testing.contract.backend import BackendContract  # noqa: E402
from roost.testing.contract.children import ChildrenContract  # noqa: E402
from roost.testing.contract.claims import ClaimsContract  # noqa: E402
from roost.testing.contract.conformance import ConformanceContract  # noqa: E402
from roost.testing.contract.control import ControlContract  # noqa: E402
from roost.testing.contract.deeds import DeedsContract  # noqa: E402
from roost.testing.contract.directives import DirectivesContract  # noqa: E402
from roost.testing.contract.endless import EndlessContract  # noqa: E402
from roost.testing.contract.ends import EndsContract  # noqa: E402
from roost.testing.contract.flows import FlowsContract  # noqa: E402
from roost.testing.contract.harness import BackendHarness, ManualHarness  # noqa: E402
from roost.testing.contract.index import IndexContract  # noqa: E402
from roost.testing.contract.journal import JournalContract  # noqa: E402
from roost.testing.contract.limits import LimitsContract  # noqa: E402
from roost.testing.contract.model import ModelContract  # noqa: E402
from roost.testing.contract.operations import OperationsContract  # noqa: E402
from roost.testing.contract.parking import ParkingContract  # noqa: E402
from roost.testing.contract.queue import QueueContract  # noqa: E402
from roost.testing.contract.signals import SignalsContract  # noqa: E402

__all__ = [
    "AccountsContract",
    "ApprovalsContract",
    "ArtifactsContract",
    "AttemptsContract",
    "BackendContract",
    "BackendHarness",
    "ChildrenContract",
    "ClaimsContract",
    "ConformanceContract",
    "ControlContract",
    "DeedsContract",
    "DirectivesContract",
    "EndlessContract",
    "EndsContract",
    "FlowsContract",
    "IndexContract",
    "JournalContract",
    "LimitsContract",
    "ManualClock",
    "ManualHarness",
    "ModelContract",
    "OperationsContract",
    "ParkingContract",
    "QueueContract",
    "SignalsContract",
]
