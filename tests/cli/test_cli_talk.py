"""`roost signal`, `signals`, `approvals`, `approve` and `tree`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Roost

ENGINE = """
from roost import Child, Join, Snapshot, WaitFor, current_step

class Talks:
    engine_id = "talks"

    async def init_snapshot(self, item):
        return Snapshot.of(item)

    async def step(self, snapshot, item):
        what = item.payload["what"]
        if snapshot.version or what == "nothing":
            return snapshot.finish(data={"got": [signal.data for signal in current_step().signals]})
        if what == "signal":
            return snapshot.next(wait_for="go")
        if what == "children":
            kids = [Child(engine="talks", key=kind, payload={"what": kind}) for kind in ("nothing", "signal")]
            return snapshot.next(spawn=kids, wait_for=WaitFor(children=Join()))
        ask = current_step().ask("publish", reply={"type": "object", "required": ["ok"]})
        return snapshot.next(wait_for=ask.wait())
"""


@pytest.fixture
def talks(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> Roost:
    (roost.folder / "talks_engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(str(roost.folder))
    monkeypatch.setenv("ROOST_APPROVALS__SIGNING_SECRET", "the secret of these tests")
    return roost


def begin(roost: Roost, what: str) -> str:
    enqueued = roost("enqueue", "--any-engine", "--engine", "talks", "--payload", f'{{"what": "{what}"}}')
    work(roost)
    return enqueued.ok().out.strip()


def work(roost: Roost) -> None:
    roost("worker", "--engines", "talks_engine:Talks", "--until-idle").ok()


def test_a_signal_is_stored_once_and_seen_by_a_step(talks: Roost) -> None:
    work_id = begin(talks, "signal")
    sent = talks("signal", work_id, "go", "--data", '{"n": 1}', "--signal-id", "s1", "--json").ok().document
    again = talks("signal", work_id, "go", "--data", '{"n": 1}', "--signal-id", "s1", "--json").ok().document
    assert (sent["is_new"], again["is_new"]) == (True, False)
    assert "not seen" in talks("signals", work_id).ok().out
    work(talks)
    [shown] = talks("signals", work_id, "--json").ok().document
    assert (shown["signal_id"], shown["data"], shown["seen_by_version"]) == ("s1", {"n": 1}, 2)
    assert talks("status", work_id, "--json").ok().document["snapshot"]["data"] == {"got": [{"n": 1}]}
    assert talks("signal", work_id, "go").code == 5


def test_data_comes_from_a_file_and_is_checked(talks: Roost, tmp_path: Path) -> None:
    work_id = begin(talks, "signal")
    (tmp_path / "data.json").write_text('["from a file"]')
    talks("signal", work_id, "note", "--data", f"@{tmp_path / 'data.json'}").ok()
    assert talks("signal", work_id, "note", "--data", "{oops").code == 2
    assert talks("signal", work_id, "note", "--data", "@nowhere.json").code == 2
    assert talks("signal", "nobody", "note").code == 3
    assert [one["data"] for one in talks("signals", work_id, "--json").ok().document] == [["from a file"]]


def test_an_approval_is_answered_once(talks: Roost) -> None:
    work_id = begin(talks, "approval")
    [found] = talks("approvals", work_id, "--json").ok().document
    assert found["token"] in talks("approvals", work_id).ok().out
    refused = talks("approve", found["token"], "--data", "{}", "--by", "ann")
    assert refused.code == 2
    assert "'ok' is a required property" in refused.err
    talks("approve", found["token"], "--data", '{"ok": true}', "--by", "ann").ok()
    assert talks("approve", found["token"], "--data", '{"ok": true}', "--by", "bob").code == 5
    assert talks("approve", "made.up", "--data", "{}").code == 2
    work(talks)
    [shown] = talks("signals", work_id, "--json").ok().document
    assert (shown["actor"], shown["data"]) == ("ann", {"ok": True})


def test_a_family_is_shown_as_a_tree(talks: Roost) -> None:
    work_id = begin(talks, "children")
    tree = talks("tree", work_id, "--json").ok().document
    assert [(child["key"], child["state"]) for child in tree["children"]] == [
        ("nothing", "done"),
        ("signal", "waiting"),
    ]
    lines = talks("tree", work_id).ok().out.splitlines()
    assert lines[0].startswith(work_id)
    assert lines[1].startswith(f"├─ {work_id}.1-0 (nothing)")
    assert lines[2].startswith(f"└─ {work_id}.1-1 (signal)")
    status = talks("status", work_id, "--json").ok().document
    assert status["children"] == {"total": 2, "open": 1}
    assert "2, 1 open" in talks("status", work_id).ok().out
