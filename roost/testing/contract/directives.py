"""The core on a backend: pauses."""

from __future__ import annotations

from roost.models import State
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Process, Scripted, check_done, finishes


class DirectivesContract(Contract):
    """What an operator can ask of a work item."""

    async def test_what_is_paused_is_not_run_until_it_is_resumed(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(finishes))
        work_id = await process.client.enqueue("demo")
        await process.client.pause(work_id, "wait for the release")
        await process.work()
        view = await process.client.status(work_id)
        assert (view.control.state, view.control.version) == (State.QUEUED, 0)
        assert view.row is not None
        assert (view.row.state, view.row.due_at) == (State.PAUSED, None)
        await process.client.resume(work_id, "released")
        await process.work()
        check_done(await process.client.status(work_id), version=1)
