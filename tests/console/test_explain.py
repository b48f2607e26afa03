"""Each reason why work does not move: the command line, the API and the page say the same of it."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from roost import Snapshot, WorkItem, current_step
from roost.core import outside
from roost.engine import EngineRegistry
from roost.journal.events import Claimed
from roost.journal.explain import Cause
from roost.journal.limits import FOREVER_AT, Close, Rate, SetRate
from roost.names import Scope
from tests.cli.conftest import Roost, roost
from tests.console.conftest import Desk, Make

__all__ = ["roost"]
pytestmark = [pytest.mark.slow, pytest.mark.soak]

_SPAN = re.compile(r"\d+(\.\d+)? (ms|s|m|h|d)( \d+ (s|m|h))?")


class Dreamer:
    """Waits for a signal after each step, which costs a dollar."""

    engine_id = "dreamer"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        current_step().spend(usd=1.0)
        return snapshot.next(wait_for="go")


def due_time(desk: Desk) -> str:
    return desk.enqueue(delay_seconds=3000)


def its_holder(desk: Desk) -> str:
    work_id = desk.enqueue()
    claimed = Claimed("w-9", desk.runtime.parts.clock.now() + 3000)
    desk.run(outside.append_to(desk.runtime.parts, work_id, lambda tail: claimed, actor="w-9"))
    return work_id


def silent_holder(desk: Desk) -> str:
    work_id = desk.enqueue()
    claimed = Claimed("w-9", desk.runtime.parts.clock.now() - 3000)
    desk.run(outside.append_to(desk.runtime.parts, work_id, lambda tail: claimed, actor="w-9"))
    return work_id


def a_claim(desk: Desk) -> str:
    desk.enqueue(engine="dreamer", resources=("db",), resource_scope=Scope.WORK, work_id="owner")
    desk.work()
    work_id = desk.enqueue(resources=("db",))
    desk.work()
    return work_id


def a_closed_key(desk: Desk) -> str:
    client = desk.runtime.client
    desk.run(client.change_resource("llm", Close(desk.runtime.parts.clock.now() + 3000, "w-3"), "429"))
    work_id = desk.enqueue(resources=("llm",))
    desk.work()
    return work_id


def a_key_closed_for_good(desk: Desk) -> str:
    desk.run(desk.runtime.client.change_resource("llm", Close(FOREVER_AT, "ann"), "no contract"))
    work_id = desk.enqueue(resources=("llm",))
    desk.work()
    return work_id


def a_rate(desk: Desk) -> str:
    desk.run(desk.runtime.client.change_resource("llm", SetRate(Rate(1, 3600.0)), "dear"))
    desk.enqueue(resources=("llm",))
    desk.work()
    work_id = desk.enqueue(resources=("llm",))
    desk.work()
    return work_id


def its_budget(desk: Desk) -> str:
    work_id = desk.enqueue(engine="dreamer", budget={"usd": 0.5})
    desk.work()
    return work_id


def no_worker(desk: Desk) -> str:
    work_id = desk.enqueue(engine="nobody")
    desk.work()
    return work_id


def the_backlog(desk: Desk) -> str:
    desk.enqueue()
    return desk.enqueue()


def a_signal(desk: Desk) -> str:
    work_id = desk.enqueue(engine="dreamer")
    desk.work()
    return work_id


def a_pause(desk: Desk) -> str:
    work_id = desk.enqueue()
    desk.run(desk.runtime.client.pause(work_id, "tonight", for_seconds=3000))
    return work_id


def a_paused_engine(desk: Desk) -> str:
    desk.run(desk.runtime.client.pause_engine("scripted", "bad release"))
    return desk.enqueue()


def a_deadline(desk: Desk) -> str:
    work_id = desk.enqueue(engine="dreamer", deadline_at=desk.runtime.parts.clock.now() + 1.0)
    desk.run(desk.runtime.parts.clock.sleep(1.0))
    return work_id


def its_end(desk: Desk) -> str:
    work_id = desk.enqueue({"fail": "no answer"})
    desk.work()
    return work_id


REASONS = {
    due_time: (Cause.DELAYED, "It sleeps and goes on in "),
    its_holder: (Cause.RUNNING, "worker w-9 runs the step after version 0 under fencing token 1"),
    silent_holder: (Cause.SILENT, "Worker w-9 has gone silent"),
    a_claim: (Cause.HELD, "Resource db is held by owner until it ends; it is 1st in line."),
    a_closed_key: (Cause.CLOSED, "Resource llm is closed by w-3 and opens in "),
    a_key_closed_for_good: (Cause.CLOSED, "Resource llm is closed by ann until somebody opens it"),
    a_rate: (Cause.RATE, "It waits for its turn with resource llm (1 starts in "),
    its_budget: (Cause.OVER_BUDGET, "budget used up: usd 1 of 0.5, until somebody raises the budget."),
    no_worker: (Cause.NO_WORKER, "waits for a worker with engine nobody: none that looked at it has that."),
    the_backlog: (Cause.BACKLOG, "about 2 deliveries wait in the queue, its own among them."),
    a_signal: (Cause.WAITING, "for signal go."),
    a_pause: (Cause.PAUSED, "(tonight) and goes on in "),
    a_paused_engine: (Cause.PAUSED, "Its engine scripted is paused by client (bad release)"),
    a_deadline: (Cause.OVERDUE, "it ends as failed as soon as a worker looks at it."),
    its_end: (Cause.ENDED, "TimeoutError: no answer."),
}


@pytest.mark.parametrize("make_it_so", REASONS, ids=lambda one: one.__name__)
def test_all_say_the_same(
    make_it_so: object, make: Make, roost: Roost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make(storage="local")
    assert isinstance(desk.runtime.engines, EngineRegistry)
    desk.runtime.engines.add(Dreamer())
    work_id = make_it_so(desk)  # type: ignore[operator]  # one of those above
    cause, words = REASONS[make_it_so]  # type: ignore[index]
    monkeypatch.setenv("ROOST_HOME", str(tmp_path))
    said = roost("explain", work_id, "--json").ok().document
    assert said["cause"] == cause
    assert words in said["text"]
    desk.app_desk.shared.forget()
    api = desk.web.get(f"/api/v1/work/{work_id}", headers={"Accept": "application/json"}).json()
    assert (api["cause"], _plain(api["explain"])) == (cause, _plain(said["text"]))
    assert _plain(api["if_worker_dies"]) == _plain(said["if_worker_dies"])
    page = html.unescape(desk.web.get(f"/work/{work_id}").text)
    assert _plain(said["text"]) in _plain(re.sub(r"<[^>]+>", "", page))
    assert _plain(said["text"]) in _plain(roost("status", work_id).ok().out)


def _plain(text: str) -> str:
    """Without the spans of time, which grow from one look to the next, and the clock's."""
    return re.sub(r"\s+", " ", re.sub(r"at \d{4}-[^ .]+\.\d+Z", "at T", _SPAN.sub("N", text)))
