"""Workspaces with real git: paths, isolation, crashes midway, keeping and restoring."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from roost import workspace
from roost.clock import SystemClock
from roost.errors import InputError, WorkspaceError
from roost.workspace import Origin, Workspaces, check_origin, workspace_name

pytestmark = pytest.mark.slow


def git(folder: Path, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "user.name=T", "-c", "user.email=t@localhost", "-C", str(folder), *arguments]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.rstrip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository with one file, and a tag on its first commit."""
    folder = tmp_path / "source"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(folder))
    for text in ("one", "two"):
        (folder / "file.txt").write_text(text)
        git(folder, "add", "file.txt")
        git(folder, "commit", "--quiet", "-m", text)
        if text == "one":
            git(folder, "tag", "first")
    return folder


@pytest.fixture
def host(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "host", SystemClock())


@pytest.fixture
def other_host(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "other-host", SystemClock())


def copy_of(bundle: Path) -> Callable[[Path], Awaitable[None]]:
    async def restore(into: Path) -> None:
        shutil.copy(bundle, into)

    return restore


# --- paths -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "work_id", [".", "..", "-rf", "a:b", "team/a", "x" * 128, "con", "a.lock", "..lock."]
)
def test_path_of_any_work_id_is_one_plain_folder_below_the_root(work_id: str) -> None:
    name = workspace_name(work_id)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not name.startswith("-")
    assert len(name) <= 60


def test_ids_that_differ_only_in_case_or_marks_have_paths_of_their_own() -> None:
    ids = ["Ab", "ab", "aB", "a.b", "a:b", "a-b", "a_b", "t/ab", "t-ab"]
    assert len({workspace_name(work_id).casefold() for work_id in ids}) == len(ids)


def test_path_of_a_work_id_never_changes() -> None:
    """Whoever wrote it down finds the workspace again after an upgrade."""
    assert workspace_name("team/Fix:Login.1") == "team-fix-login-1-fba1ed8ba59cdade"


@pytest.mark.parametrize(
    "origin",
    [
        Origin("--upload-pack=x"),
        Origin("/r", "--force"),
        Origin("ext::sh -c x"),
        Origin("a\nb"),
        Origin("/r", "\0"),
    ],
)
def test_origin_that_git_could_take_for_an_option_or_program_is_refused(origin: Origin) -> None:
    with pytest.raises(InputError):
        check_origin(origin)


# --- making ----------------------------------------------------------------------


@pytest.mark.parametrize("is_worktree", [True, False])
async def test_workspace_begins_at_the_ref_on_a_branch_of_its_own(
    host: Workspaces, source: Path, is_worktree: bool
) -> None:
    path = await host.open("w", Origin(str(source), "first", is_worktree))
    assert path == host.path("w")
    assert (path / "file.txt").read_text() == "one"
    assert git(path, "branch", "--show-current") == f"roost/{path.name}"


async def test_workspace_without_a_source_is_a_repository_without_files(host: Workspaces) -> None:
    path = await host.open("w", Origin())
    assert [child.name for child in path.iterdir()] == [".git"]
    assert git(path, "status", "--porcelain") == ""


@pytest.mark.parametrize("is_worktree", [True, False])
async def test_workspaces_are_isolated_and_found_again(
    host: Workspaces, source: Path, is_worktree: bool
) -> None:
    origin = Origin(str(source), "main", is_worktree)
    one, two = await asyncio.gather(host.open("one", origin), host.open("two", origin))
    (one / "file.txt").write_text("mine")
    git(one, "commit", "--quiet", "-am", "mine")
    assert (two / "file.txt").read_text() == (source / "file.txt").read_text() == "two"
    assert (await host.open("one", origin) / "file.txt").read_text() == "mine"


async def test_many_workspaces_of_one_source_are_made_at_once(host: Workspaces, source: Path) -> None:
    paths = await asyncio.gather(*(host.open(f"w{n}", Origin(str(source))) for n in range(8)))
    assert all((path / "file.txt").exists() for path in paths)


async def test_one_workspace_that_two_ask_for_is_made_once(host: Workspaces, source: Path) -> None:
    twice = await asyncio.gather(*(host.open("w", Origin(str(source))) for _ in range(2)))
    assert twice[0] == twice[1]
    assert len(git(source, "worktree", "list").splitlines()) == 2


@pytest.mark.parametrize("is_worktree", [True, False])
async def test_workspace_that_was_half_made_is_made_anew(
    host: Workspaces, source: Path, is_worktree: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died after git was done, before the record was written."""

    def die(self: Workspaces, record: object) -> None:
        raise KeyboardInterrupt

    origin = Origin(str(source), "main", is_worktree)
    with monkeypatch.context() as patch:
        patch.setattr(Workspaces, "_write", die)
        with pytest.raises(KeyboardInterrupt):
            await host.open("w", origin)
    (host.path("w") / "file.txt").write_text("half")
    assert (await host.open("w", origin) / "file.txt").read_text() == "two"


@pytest.mark.parametrize("is_worktree", [True, False])
async def test_workspace_whose_folder_was_deleted_by_hand_is_made_anew(
    host: Workspaces, source: Path, is_worktree: bool
) -> None:
    origin = Origin(str(source), "main", is_worktree)
    shutil.rmtree(await host.open("w", origin))
    assert (await host.open("w", origin) / "file.txt").read_text() == "two"


@pytest.mark.parametrize(("ref", "name"), [("nothing", "source"), ("main", "no-source"), ("main", "empty")])
@pytest.mark.parametrize("is_worktree", [True, False])
async def test_source_or_ref_that_is_not_there_is_an_error_that_leaves_nothing(
    host: Workspaces, source: Path, ref: str, name: str, is_worktree: bool
) -> None:
    git(source.parent, "init", "--quiet", "empty")
    with pytest.raises(WorkspaceError):
        await host.open("w", Origin(str(source.parent / name), ref, is_worktree))
    assert host.record("w") is None


async def test_hooks_of_the_source_do_not_run(host: Workspaces, source: Path, tmp_path: Path) -> None:
    hook = source / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    await host.open("w", Origin(str(source)))
    assert not (tmp_path / "ran").exists()


async def test_git_variables_of_the_surroundings_do_not_lead_elsewhere(
    host: Workspaces, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert (await host.open("w", Origin(str(source))) / "file.txt").exists()


async def test_credentials_of_a_source_are_neither_told_nor_written_down(
    host: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkspaceError) as caught:
        await host.open("w", Origin("https://user:s3cret@127.0.0.1:1/r", is_worktree=False))
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


async def test_git_that_hangs_is_ended(
    host: Workspaces, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "GIT_TIMEOUT_SECONDS", 0.0)
    with pytest.raises(WorkspaceError, match="took longer"):
        await host.open("w", Origin(str(source), is_worktree=False))


# --- removing --------------------------------------------------------------------


async def test_removed_workspace_leaves_neither_folder_nor_branch(host: Workspaces, source: Path) -> None:
    path = await host.open("w", Origin(str(source)))
    await host.remove("w")
    assert not path.exists()
    assert host.record("w") is None
    assert list(host.left()) == []
    assert git(source, "branch", "--list", "roost/*") == ""
    assert len(git(source, "worktree", "list").splitlines()) == 1


async def test_commits_of_a_removed_workspace_stay_in_the_source_that_it_shared(
    host: Workspaces, source: Path
) -> None:
    path = await host.open("w", Origin(str(source)))
    (path / "file.txt").write_text("result")
    git(path, "commit", "--quiet", "-am", "result")
    await host.remove("w")
    assert git(source, "show", f"roost/{path.name}:file.txt") == "result"
    again = await host.open("w", Origin(str(source)))
    assert (again / "file.txt").read_text() == "result"


async def test_removal_after_the_source_is_gone_still_removes_the_folder(
    host: Workspaces, source: Path
) -> None:
    path = await host.open("w", Origin(str(source)))
    shutil.rmtree(source)
    await host.remove("w")
    assert not path.exists()


async def test_workspace_that_is_not_there_is_removed_without_complaint(host: Workspaces) -> None:
    await host.remove("w")


# --- keeping and restoring -------------------------------------------------------


@pytest.mark.parametrize("name", ["", "source"])
@pytest.mark.parametrize("is_worktree", [True, False])
async def test_kept_workspace_is_restored_on_another_host(
    host: Workspaces, other_host: Workspaces, source: Path, tmp_path: Path, name: str, is_worktree: bool
) -> None:
    """Commits, changes that were not committed, new files, deleted ones and modes."""
    origin = Origin(str(source) if name else "", "HEAD", is_worktree)
    path = await host.open("w", origin)
    (path / "file.txt").write_text("committed")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "-m", "of the agent")
    (path / "gone.txt").write_text("x")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "-m", "another")
    (path / "file.txt").write_text("changed")
    (path / "gone.txt").unlink()
    (path / "new").mkdir()
    (path / "new" / "run.sh").write_text("#!/bin/sh")
    (path / "new" / "run.sh").chmod(0o755)
    kept = await host.keep("w", tmp_path / "bundle")
    assert kept
    if is_worktree and name:  # one source can't be shared by two hosts; the branch is there already
        await host.remove("w")

    there = await other_host.open("w", origin, digest="d1", restore=copy_of(tmp_path / "bundle"))
    assert (there / "file.txt").read_text() == "changed"
    assert not (there / "gone.txt").exists()
    assert os.access(there / "new" / "run.sh", os.X_OK)
    assert git(there, "log", "--format=%s").splitlines()[:2] == ["another", "of the agent"]
    assert git(there, "status", "--porcelain").splitlines() == [" M file.txt", " D gone.txt", "?? new/"]
    assert git(there, "branch", "--show-current") == f"roost/{there.name}"


async def test_workspace_that_another_host_took_further_is_brought_up_to_date(
    host: Workspaces, other_host: Workspaces, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    path = await host.open("w", Origin())
    (path / "a").write_text("1")
    kept = await host.keep("w", first)
    await host.kept("w", str(kept), "d1")
    there = await other_host.open("w", Origin(), digest="d1", restore=copy_of(first))
    (there / "a").write_text("2")
    await other_host.keep("w", second)

    (path / "a").write_text("what a worker left that lost its lease")
    (path / "b").write_text("of it, too")
    back = await host.open("w", Origin(), digest="d2", restore=copy_of(second))
    assert (back / "a").read_text() == "2"
    assert not (back / "b").exists()


async def test_workspace_that_is_up_to_date_is_left_alone(host: Workspaces, tmp_path: Path) -> None:
    path = await host.open("w", Origin())
    kept = await host.keep("w", tmp_path / "bundle")
    await host.kept("w", str(kept), "d1")
    (path / "a").write_text("of a step that failed")
    await host.open("w", Origin(), digest="d1", restore=copy_of(tmp_path / "bundle"))
    assert (path / "a").exists()


async def test_workspace_without_changes_is_not_kept_again(host: Workspaces, tmp_path: Path) -> None:
    path = await host.open("w", Origin())
    (path / "a").write_text("1")
    kept = await host.keep("w", tmp_path / "bundle")
    await host.kept("w", str(kept), "d1")
    assert await host.keep("w", tmp_path / "again") is None
    (path / "a").write_text("2")
    assert await host.keep("w", tmp_path / "again") is not None


async def test_keeping_leaves_what_is_staged_as_it_is(host: Workspaces, tmp_path: Path) -> None:
    path = await host.open("w", Origin())
    (path / "staged").write_text("1")
    (path / "loose").write_text("1")
    git(path, "add", "staged")
    await host.keep("w", tmp_path / "bundle")
    assert git(path, "status", "--porcelain").splitlines() == ["A  staged", "?? loose"]


async def test_keeping_survives_a_lock_that_a_dead_process_left(host: Workspaces, tmp_path: Path) -> None:
    path = await host.open("w", Origin())
    (path / ".git" / "roost-index.lock").touch()
    assert await host.keep("w", tmp_path / "bundle")


async def test_restore_that_failed_midway_is_done_again(host: Workspaces, tmp_path: Path) -> None:
    path = await host.open("w", Origin())
    (path / "a").write_text("1")
    await host.keep("w", tmp_path / "bundle")
    (path / "a").unlink()

    async def fail(into: Path) -> None:
        into.write_bytes(b"half of it")

    with pytest.raises(WorkspaceError):
        await host.open("w", Origin(), digest="d1", restore=fail)
    await host.open("w", Origin(), digest="d1", restore=copy_of(tmp_path / "bundle"))
    assert (path / "a").read_text() == "1"
