"""`examples/folder_backend` passes the contract, and works behind the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.folder_backend import FolderBackend
from examples.folder_backend.files import Folder
from roost.storage.ports import Backend
from roost.testing import contract
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


class FolderHarness(ManualHarness):
    """A folder for each store; a second backend on it is what another process opens."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._count = 0

    @property
    def _home(self) -> Path:
        return self._directory / str(self._count)

    async def open(self) -> Backend:
        self._count += 1
        return await self.reopen()

    async def reopen(self) -> Backend:
        return self.keep(FolderBackend(self._home, self.clock))

    async def damage(self, digest: str) -> None:
        [path] = (self._home / "artifacts").rglob(digest)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.fixture
def harness(tmp_path: Path) -> BackendHarness:
    return FolderHarness(tmp_path)


class TestJournal(JournalContract):
    pass


class TestIndex(IndexContract):
    pass


class TestClaims(ClaimsContract):
    pass


@pytest.mark.soak
class TestAccounts(AccountsContract):
    """See `AccountsContract`."""


@pytest.mark.soak
class TestLimits(LimitsContract):
    pass


class TestQueue(QueueContract):
    pass


@pytest.mark.soak
class TestAttempts(AttemptsContract):
    pass


@pytest.mark.soak
class TestParking(ParkingContract):
    pass


class TestArtifacts(ArtifactsContract):
    pass


class TestBackend(BackendContract):
    pass


@pytest.mark.soak
class TestControl(ControlContract):
    """See `ControlContract`."""


class TestSignals(SignalsContract):
    """See `SignalsContract`."""


class TestApprovals(ApprovalsContract):
    """See `ApprovalsContract`."""


@pytest.mark.soak
class TestConformance(ConformanceContract):
    """See `ConformanceContract`."""


@pytest.mark.soak
class TestFlows(FlowsContract):
    """See `FlowsContract`."""


class TestChildren(ChildrenContract):
    """See `ChildrenContract`."""


@pytest.mark.soak
class TestOperations(OperationsContract):
    """See `OperationsContract`."""


class TestDeeds(DeedsContract):
    """See `DeedsContract`."""


class TestDirectives(DirectivesContract):
    """See `DirectivesContract`."""


class TestEndless(EndlessContract):
    """See `EndlessContract`."""


class TestEnds(EndsContract):
    """See `EndsContract`."""


@pytest.mark.soak  # minutes of small files; what it looks for in a backend, the others look for, too
class TestModel(ModelContract):
    pass


@pytest.mark.slow
def test_it_is_found_by_its_entry_point(tmp_path: Path) -> None:
    """As if a package `folder-backend` were installed: the commands take the URL of its scheme."""
    info = tmp_path / "folder_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: folder-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[roost.backends]\nfolder = folder_backend:open_url\n")
    examples = Path(__file__).parents[2] / "examples"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
    environ |= {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{examples}",
        "ROOST_HOME": str(tmp_path / "home"),
        "ROOST_STORAGE": f"folder:{tmp_path / 'store'}",
    }

    def run(*words: str) -> str:
        roost = str(Path(sys.executable).parent / "roost")
        done = subprocess.run([roost, *words], env=environ, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        return done.stdout

    work_id = run("enqueue", "--engine", "demo", "--payload", '{"count": 2, "delay_seconds": 0}').strip()
    run("worker", "--engines", "demo", "--until-idle")
    assert json.loads(run("status", work_id, "--json"))["control"]["state"] == "done"
    assert list((tmp_path / "store" / "journal").iterdir())


def test_what_a_dead_process_decided_is_carried_out_by_the_next(tmp_path: Path) -> None:
    """A crash after the redo file was written, before its changes were: nothing is half done."""
    folder = Folder(tmp_path)
    with folder.transaction() as files:
        files.put("a/1", 1)
    (tmp_path / "redo").write_bytes(b'{"a/1":null,"a/2":2,"b/3":3}')
    with folder.transaction() as files:
        assert (files.names("a"), files.get("a/2", int), files.get("b/3", int)) == (["a/2"], 2, 3)
    assert not (tmp_path / "redo").exists()


def test_a_transaction_that_fails_changes_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    def fail() -> None:
        with folder.transaction() as files:
            files.put("a", 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with folder.transaction() as files:
        assert files.get("a", int) is None


def test_every_contract_is_bound() -> None:
    bound = {base for value in globals().values() if isinstance(value, type) for base in value.__bases__}
    wanted = {getattr(contract, name) for name in contract.__all__ if name.endswith("Contract")}
    assert wanted <= bound
