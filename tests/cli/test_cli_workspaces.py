"""`roost workspace-path`, and a worker whose engine asks for a workspace."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Roost

ENGINE = """
from roost import Snapshot, current_step

class Coder:
    engine_id = "coder"

    async def init_snapshot(self, item):
        return Snapshot.of(item)

    async def step(self, snapshot, item):
        path = await current_step().workspace()
        (path / "result.txt").write_text((path / "given.txt").read_text() + " seen")
        return snapshot.finish()
"""


def git(folder: Path, *arguments: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "user.name=T", "-c", "user.email=t@localhost", "-C", str(folder), *arguments]
    subprocess.run(command, env=env, check=True, capture_output=True)


def test_path_is_told_before_the_workspace_is_there(roost: Roost) -> None:
    result = roost("workspace-path", "some:Work").ok()
    path = Path(result.out.strip())
    assert path.is_relative_to(roost.home / "workspaces")
    assert path.name.startswith("some-work-")
    assert "no workspace" in result.err
    assert roost("workspace-path", "some:Work", "--json").ok().document == {
        "path": str(path),
        "exists": False,
        "source": None,
        "base": None,
    }


def test_id_without_a_namespace_is_of_the_one_in_the_settings(
    roost: Roost, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = roost("workspace-path", "team/w").ok().out
    assert roost("workspace-path", "w").ok().out != full
    monkeypatch.setenv("ROOST_NAMESPACE", "team")
    assert roost("workspace-path", "w").ok().out == full


def test_storages_that_share_a_home_do_not_share_workspaces(roost: Roost) -> None:
    here = roost("workspace-path", "w").ok().out
    assert roost("workspace-path", "w", "--storage", "local:/elsewhere").ok().out != here


@pytest.mark.slow
def test_engine_works_in_a_worktree_of_the_repository_in_the_settings(roost: Roost) -> None:
    source = roost.folder / "source"
    git(roost.folder, "init", "--quiet", str(source))
    (source / "given.txt").write_text("given")
    git(source, "add", ".")
    git(source, "commit", "--quiet", "-m", "given")
    roost.write("coder.py", ENGINE)
    roost.write("roost.toml", f'[workspace]\nsource = "{source}"\nremove = "never"\n')
    work_id = roost("enqueue", "--any-engine", "--engine", "coder").ok().out.strip()
    roost.process("worker", "--engines", "coder:Coder", "--until-idle").ok()
    result = roost("workspace-path", work_id).ok()
    assert result.err == ""
    assert (Path(result.out.strip()) / "result.txt").read_text() == "given seen"
    assert not (source / "result.txt").exists()
