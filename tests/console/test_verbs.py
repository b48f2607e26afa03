"""Every verb that works over `--url`, beside the same verb on the storage itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roost import Child, Snapshot, WaitFor, WorkItem, current_step
from roost.cli.app import _OVER_URL
from roost.config import ApprovalSettings, ConsoleSettings, Settings
from roost.core import operating
from roost.core.bulk import Action
from roost.core.schedules import keep
from roost.engine import EngineRegistry, RetryPolicy
from roost.journal.limits import SetCapacity
from roost.rules import Schedule
from roost.storage.ports import Message
from roost.wiring import Runtime
from tests.cli.conftest import Roost, roost
from tests.console.conftest import _work
from tests.console.serving import served

__all__ = ["roost"]
pytestmark = [pytest.mark.slow, pytest.mark.soak]

SECRET = "the secret of these tests"
TOKEN = "operator-token-0001"
_SPAN = re.compile(r"\d+(\.\d+)? (ms|s|m|h)( \d+ (s|m))?")
_RECEIPT = re.compile(r'("receipt": ")[^"]*')


class Story:
    """Does what its payload says: `ask`, `spawn`, `fail`; else three steps with an artifact."""

    engine_id = "story"
    retry = RetryPolicy(max_attempts=1)

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="begin", data={"n": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        n, what = snapshot.data["n"] + 1, item.payload
        if "fail" in what:
            raise TimeoutError("no answer from host in 30 s")
        if "ask" in what and n == 2:
            return snapshot.finish()
        if "ask" in what:
            schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
            ask = current_step().ask(reply=schema)
            return snapshot.next("asked", data={"n": n}, wait_for=ask.wait(timeout_seconds=9999))
        if "wait" in what:
            return snapshot.next("waits", data={"n": n}, wait_for=WaitFor(signals=("go",)))
        if "spawn" in what and n == 1:
            return snapshot.next("spread", data={"n": n}, spawn=[Child(engine="story", payload={"fail": 1})])
        current_step().log.info("note %d", n)
        await current_step().artifacts.put(f"note-{n}.txt", f"note {n}")
        return snapshot.finish(data={"n": n}) if n == 3 else snapshot.next("more", data={"n": n})


async def _seed(runtime: Runtime) -> None:
    client = runtime.client
    assert isinstance(runtime.engines, EngineRegistry)
    runtime.engines.add(Story())
    await client.enqueue("story", work_id="done", labels={"tenant": "acme"}, budget={"usd": 2.0})
    for n in range(8):
        await client.enqueue("story", {"fail": 1}, work_id=f"failed-{n}")
        await client.enqueue("story", {"ask": 1}, work_id=f"asks-{n}")
    for n in range(2):
        await client.enqueue("story", work_id=f"over-{n}")
    await client.enqueue("story", {"spawn": 1}, work_id="parent")
    await client.enqueue("story", {"wait": 1}, work_id="waits", resources=("gpu",))
    await _work(runtime)
    await client.signal("waits", "other", {"a": 1}, signal_id="s-1")
    await client.change_resource("gpu", SetCapacity(3))
    await keep(client, {"nightly": Schedule(cron="0 3 * * *", engine="story")})
    await client.pause_engine("story", "bad release")
    operation = operating.Operation(
        action=Action.CANCEL, ids=("nobody", "parent"), at=runtime.parts.clock.now()
    )
    await operating.start(client, operation, key="k")
    await runtime.backend.queue.send([Message("nobody", 3)])
    await _work(runtime)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    home = tmp_path_factory.mktemp("verbs")
    settings = Settings(
        storage="local",
        home=home,
        approvals=ApprovalSettings(signing_secret=SECRET),
        console=ConsoleSettings(auth="token", admin_token=TOKEN),
    )
    with served(settings, _seed, drives=True) as url:
        yield url, home


@pytest.fixture
def near(roost: Roost, place: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Roost:
    monkeypatch.setenv("ROOST_HOME", str(place[1]))
    monkeypatch.setenv("ROOST_APPROVALS__SIGNING_SECRET", SECRET)
    monkeypatch.setenv("ROOST_TOKEN", TOKEN)
    return roost


LOOKS = (
    "status done",
    "status waits",
    "explain waits",
    "list",
    "list --state failed --sort oldest",
    "list --where -state:failed",
    "list --sort due",
    "list --sort since -n 3",
    "list --label tenant=acme",
    "list --parent parent",
    "events done",
    "events parent",
    "logs done",
    "history done",
    "history done 2",
    "history done 1 3",
    "diff done 1 2",
    "wait done",
    "artifacts list done",
    "artifacts verify done",
    "resources list",
    "resources show gpu",
    "signals waits",
    "approvals asks-0",
    "tree parent",
    "switches",
    "budget done",
    "budget --day",
    "operations list",
    "operations show operation:k",
    "schedules list",
    "dlq list",
    "dlq list --messages",
    "dlq show failed-0",
    "retry --state failed --dry-run",
    "purge --where id:over --dry-run",
)


@pytest.mark.parametrize("line", LOOKS)
def test_a_verb_that_looks_gives_the_same_from_afar(near: Roost, place: tuple[str, Path], line: str) -> None:
    args = [*line.split(), "--json"]
    direct, far = near(*args), near("--url", place[0], *args)
    assert (far.code, far.err) == (direct.code, direct.err)
    assert _told(far.out) == _told(direct.out)
    assert direct.out.strip()


def _told(out: str) -> Any:
    """What it says, without spans of time, which go on, and receipts, which a console signs."""
    lines = (_RECEIPT.sub(r"\1", _SPAN.sub("…", line)) for line in out.splitlines())
    return json.loads(f"[{','.join(lines)}]")


ACTS = (
    ("cancel later-{} --reason x --by 30s", "later"),
    ("pause later-{} --reason x --for 2h", "later"),
    ("resume later-{} --reason x", "later"),
    ("budget later-{} --set usd=3 --reason x", "later"),
    ("signal later-{} go --data 1 --signal-id s", "later"),
    ("retry failed-{} --reason x", "failed"),
    ("retry failed-{} --from 0", "failed"),
    ("dlq retry failed-{} --reason x", "failed"),
    ("cancel --where id:later-{} --yes --reason x", "later"),
    ("pause --prefix later-{} --yes", "later"),
)


@pytest.mark.parametrize(("line", "kind"), ACTS, ids=[line for line, _ in ACTS])
def test_a_verb_that_acts_leaves_the_same_from_afar(
    near: Roost, place: tuple[str, Path], line: str, kind: str
) -> None:
    number = 2 * [one for one, other in ACTS if other == kind].index(line)
    if kind == "later":
        for n in (number, number + 1):
            near("enqueue", "--engine", "demo", "--delay", "1h", "--work-id", f"later-{n}").ok()
    direct = near(*line.format(number).split())
    far = near("--url", place[0], *line.format(number + 1).split())
    assert (direct.code, far.code) == (0, 0), (direct.err, far.err)
    tails = [near("events", f"{kind}-{n}", "--json").ok().documents[-1] for n in (number, number + 1)]
    assert tails[0]["kind"] == tails[1]["kind"]
    near_detail, far_detail = [_without_times(tail["detail"]) for tail in tails]
    assert near_detail == far_detail
    assert "console:admin" in tails[1]["actor"]
    assert "console" not in tails[0]["actor"]


def _without_times(detail: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in detail.items() if name not in ("by", "until", "digests", "recent")}


def test_the_rest_of_the_verbs_from_afar(near: Roost, place: tuple[str, Path]) -> None:
    def far(*args: str) -> Any:
        return near("--url", place[0], *args).ok()

    options = (
        "--resource",
        "gpu=2",
        "--conversation",
        "c-1",
        "--if-busy",
        "reject",
        "--label",
        "a=b",
        "--delay",
        "1h",
    )
    work_id = far("enqueue", "--engine", "demo", *options).out.strip()
    item = near("status", work_id, "--json").ok().document["item"]
    assert (item["capacities"], item["conversation"]) == ({"gpu": 2}, "c-1")
    forked = far("fork", "done", "--at", "2", "--set", "data.n=9", "--priority", "1").out.strip()
    assert near("status", forked, "--json").ok().document["item"]["forked_from"] == ["done", 2]
    token = near("approvals", "asks-1", "--json").ok().document[0]["token"]
    refused = near("--url", place[0], "approve", token, "--data", '{"ok": 3}')
    assert refused.code == 2
    far("approve", token, "--data", '{"ok": true}', "--by", "ann")
    assert near("signals", "asks-1", "--json").ok().document[0]["actor"] == "ann by console:admin"
    assert near("--url", place[0], "approve", token, "--data", '{"ok": false}').code == 5
    far("purge", "over-1")
    assert near("status", "over-1").code == 3
    far("resources", "set", "gpu", "--capacity", "5")
    far("resources", "close", "gpu", "--for", "1h")
    assert near("resources", "show", "gpu", "--json").ok().document["limits"]["capacity"] == 5
    far("resources", "open", "gpu")
    far("pause", "--lane", "low", "--reason", "x")
    far("resume", "--lane", "low")
    far("drain", "w9", "--reason", "a bad host")
    targets = [one["target"] for one in near("switches", "--json").ok().document]
    assert sorted(targets) == ["engine:/story", "worker:w9"]
    far("drain", "w9", "--keep")
    assert [one["target"] for one in near("switches", "--json").ok().document] == ["engine:/story"]
    far("schedules", "pause", "nightly")
    assert near("schedules", "list", "--json").ok().document[0]["state"] == "paused"
    far("schedules", "resume", "nightly")
    far("dlq", "drop", "--messages", "--yes")
    assert near("dlq", "list", "--messages", "--json").ok().document == []
    saved = near.folder / "note"
    far("artifacts", "get", "done", "note-1.txt", "--output", str(saved))
    assert saved.read_text() == "note 1"


def test_every_verb_over_an_address_is_tried_here() -> None:
    source = Path(__file__).read_text()
    tried = {line.split()[0] for line in (*LOOKS, *(line for line, _ in ACTS))}
    tried |= set(re.findall(r'far\("(\w+)"', source))
    assert tried >= _OVER_URL
