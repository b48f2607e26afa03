"""A bundle holds whole journals and their blobs, and is shown where their storage is not."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from roost.console.principal import Authenticator
from roost.core import bundles
from roost.errors import InputError, WorkNotFound
from tests.console.conftest import Desk, Make


def test_a_bundle_shows_what_was_exported_and_lets_nobody_act(make: Make, tmp_path: Path) -> None:
    desk = make(storage="local")
    big = "x" * 400_000  # spilled on backends with small entries
    notes = [["notes.md", "# Notes", "text/markdown"]]
    work_id = desk.enqueue({"artifacts": notes, "data": {"big": big}}, {"data": {"a": 2}}, {"fail": "gone"})
    other = desk.enqueue({})
    desk.work()
    path = tmp_path / "incident.roost"
    count = desk.run(bundles.save(desk.runtime.client, desk.runtime.backend, [work_id], path))
    shown = make()
    assert desk.run(bundles.load(shown.runtime.backend, path)) == count
    there = Desk(shown.runtime, shown.app, shown.loop, shown.settings, shown.front)
    for query in ("", "?tab=changes&v=2", "?tab=payload"):
        before = desk.web.get(f"/work/{work_id}{query}").text
        after = there.web.get(f"/work/{work_id}{query}").text
        assert (
            before.split('id="journal"')[1].split("</tbody>")[0]
            == (after.split('id="journal"')[1].split("</tbody>")[0])
        )
    assert "<h1>Notes</h1>" in there.web.get(f"/work/{work_id}/artifacts/0").text
    assert there.web.get(f"/work/{other}").status_code == 404
    reader = Authenticator(shown.settings.console, shown.runtime.parts.clock, is_read_only=True)
    who = reader.principal({"client": ("127.0.0.1", 1)})
    assert who is not None
    assert who.role == "viewer"


def test_what_is_no_bundle_is_refused(make: Make, tmp_path: Path) -> None:
    desk = make()
    work_id = desk.enqueue({"artifacts": [["a.txt", "a", "text/plain"]]})
    desk.work()
    path = tmp_path / "a.roost"
    with pytest.raises(WorkNotFound):
        desk.run(bundles.save(desk.runtime.client, desk.runtime.backend, ["nobody"], path))
    assert list(tmp_path.glob("a.roost*")) == []
    desk.run(bundles.save(desk.runtime.client, desk.runtime.backend, [work_id], path))
    for wrong in (_without_first_line(path), _with_other_blob(path), _no_zip(path)):
        with pytest.raises(InputError):
            desk.run(bundles.load(make().runtime.backend, wrong))


def _rewritten(path: Path, name: str, change: object) -> Path:
    made = path.with_name(f"{name}.roost")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, change(info.filename, content))  # type: ignore[operator]
    return made


def _without_first_line(path: Path) -> Path:
    def change(name: str, content: bytes) -> bytes:
        return content.partition(b"\n")[2] if name == bundles.JOURNALS else content

    return _rewritten(path, "cut", change)


def _with_other_blob(path: Path) -> Path:
    return _rewritten(path, "other", lambda name, content: content if name == bundles.JOURNALS else b"b")


def _no_zip(path: Path) -> Path:
    made = path.with_name("no.roost")
    made.write_bytes(b"nothing")
    return made
