"""`roost artifacts`: what comes out is what was put in, or an error."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Roost

ENGINE = """
from roost import Snapshot, current_step

class Maker:
    engine_id = "maker"

    async def init_snapshot(self, item):
        return Snapshot.of(item)

    async def step(self, snapshot, item):
        for name, text in item.payload.items():
            await current_step().artifacts.put(name, text)
        return snapshot.finish()
"""


@pytest.fixture
def made(roost: Roost) -> str:
    """A work item with the artifacts `one.txt`, `a` and `../../evil`."""
    roost.write("maker_engine.py", ENGINE)
    body = '{"one.txt": "first", "a": "second", "../../evil": "third"}'
    args = ("enqueue", "--engine", "maker", "--any-engine", "--payload", body)
    work_id = roost(*args).ok().out.strip()
    roost.process("worker", "--engines", "maker_engine:Maker", "--until-idle").ok()
    return work_id


def _blobs(roost: Roost, digest: str) -> list[Path]:
    return [path for path in roost.home.rglob("*") if path.is_file() and digest[:8] in str(path)]


def test_no_artifacts_is_an_empty_list(roost: Roost) -> None:
    work_id = roost.enqueue()
    assert roost("artifacts", "list", work_id, "--json").ok().document == []
    assert roost("artifacts", "verify", work_id, "--json").ok().document == []
    assert roost("artifacts", "list", work_id).ok().out == ""


@pytest.mark.slow
def test_list_get_and_verify(roost: Roost, made: str) -> None:
    listed = {row["name"]: row for row in roost("artifacts", "list", made, "--json").ok().document}
    assert set(listed) == {"one.txt", "a", "../../evil"}
    digest = hashlib.sha256(b"first").hexdigest()
    assert listed["one.txt"]["digest"] == digest
    assert roost("artifacts", "get", made, "one.txt").ok().out == "first"
    assert roost("artifacts", "get", made, digest).ok().out == "first"
    assert roost("artifacts", "get", made, "a").ok().out == "second"
    assert all(row["ok"] for row in roost("artifacts", "verify", made, "--json").ok().document)
    for name in ("", "f", "nothing"):  # neither a name nor enough of a digest
        assert roost("artifacts", "get", made, name).code in (2, 3)


@pytest.mark.slow
def test_get_writes_a_file_whole_and_only_when_told(roost: Roost, made: str) -> None:
    target = roost.folder / "out.txt"
    roost("artifacts", "get", made, "one.txt", "-o", str(target)).ok()
    assert target.read_text() == "first"
    result = roost("artifacts", "get", made, "a", "-o", str(target))
    assert result.code == 2
    assert target.read_text() == "first"
    roost("artifacts", "get", made, "a", "-o", str(target), "--force").ok()
    assert target.read_text() == "second"
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask
    assert not [name for name in os.listdir(roost.folder) if name.startswith(".out")]


@pytest.mark.slow
def test_get_writes_to_no_folder_or_device(roost: Roost, made: str) -> None:
    """`-o /dev/null --force` would put a file in place of the device, for everybody."""
    fifo = roost.folder / "fifo"
    os.mkfifo(fifo)
    for name, words in ((".", "is a folder"), ("fifo", "no ordinary file")):
        result = roost("artifacts", "get", made, "one.txt", "-o", str(roost.folder / name), "--force")
        assert result.code == 2
        assert words in result.err
    assert fifo.is_fifo()
    assert roost("artifacts", "get", made, "one.txt", "-o", "-").ok().out == "first"


def test_get_can_not_write_is_one_error(roost: Roost, made: str) -> None:
    for target in ("missing/folder/file", "."):
        result = roost("artifacts", "get", made, "a", "-o", target, "--force")
        assert result.code == 2
        assert result.err.startswith("Error: ")


@pytest.mark.slow
def test_a_blob_that_was_changed_is_never_given_out(roost: Roost, made: str) -> None:
    digest = hashlib.sha256(b"first").hexdigest()
    for path in _blobs(roost, digest):
        path.chmod(0o600)
        path.write_bytes(b"FIRST")
    target = roost.folder / "out.txt"
    assert roost("artifacts", "get", made, "one.txt").code == 1
    assert roost("artifacts", "get", made, "one.txt").out == ""
    assert roost("artifacts", "get", made, "one.txt", "-o", str(target)).code == 1
    assert not target.exists()
    result = roost("artifacts", "verify", made, "--json")
    assert result.code == 1
    assert {row["name"]: row["ok"] for row in result.document} == {
        "one.txt": False,
        "a": True,
        "../../evil": True,
    }


@pytest.mark.slow
def test_a_blob_that_is_gone_is_not_found(roost: Roost, made: str) -> None:
    for path in _blobs(roost, hashlib.sha256(b"first").hexdigest()):
        path.unlink()
    assert roost("artifacts", "get", made, "one.txt").code == 3
