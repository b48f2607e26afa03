"""Workspaces: a git working tree of its own for each work item, on this host.

The path of a workspace follows from the work id alone. What Roost knows of it is in a
record beside it, written last: a tree without a record is half-made, and is made anew.
All that happens to one workspace happens under a file lock, which ends with its process.

`git` is run by argument lists, never through a shell, without hooks and prompts, and
with no more than the protocols named here.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict, replace

from roost.clock import Clock
from roost.errors import InputError, WorkspaceError

GIT_TIMEOUT_SECONDS = 900.0  # the longest that one git command may take, a clone included
LOCK_SECONDS = 1800.0  # how long one waits for another process that is at work on a workspace
LOCKS = 64  # lock files; two workspaces may share one
LEFT_MAX = 10_000  # workspaces that one look for what may be removed goes through
_LOCK_PAUSE_SECONDS = 0.05
_SLUG_CHARS = 40
_STATE = ".roost"  # no workspace's name begins with a dot
_BRANCH = "roost/"
_WORK_REF, _HEAD_REF = "refs/worktree/roost-work", "refs/worktree/roost-head"  # refs of one tree only
_PROTOCOLS = "file:https:ssh"
_TEXT = re.compile(r"[^\x00-\x1f\x7f]+")
_CREDENTIALS = re.compile(r"(\w+://)[^/@\s]+@")
_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0")
_IDENTITY = {
    "GIT_AUTHOR_NAME": "Roost",
    "GIT_AUTHOR_EMAIL": "roost@localhost",
    "GIT_AUTHOR_DATE": "@0 +0000",  # the same content is the same commit
    "GIT_COMMITTER_NAME": "Roost",
    "GIT_COMMITTER_EMAIL": "roost@localhost",
    "GIT_COMMITTER_DATE": "@0 +0000",
}


class Origin(Struct, frozen=True):
    """Where a workspace comes from.

    Attributes:
        source: a git repository: the path of one on this host, or a URL (https, ssh); empty
            for a new repository without files.
        ref: the branch, tag or commit that it starts from.
        is_worktree: share the source's objects and branches as a worktree, which only a
            source on this host can; else it is a clone.
    """

    source: str = ""
    ref: str = "HEAD"
    is_worktree: bool = True


class Record(Struct, frozen=True):
    """What is known of a workspace on this host.

    Attributes:
        base: the commit that it started from.
        kept: what was last kept of it, as `Workspaces.keep` calls it; empty: nothing.
        digest: of the artifact that holds this.
    """

    work_id: str
    source: str
    is_worktree: bool
    base: str
    kept: str = ""
    digest: str = ""


Restore = Callable[[Path], Awaitable[None]]
"""Writes a bundle that was kept elsewhere into the file of that name."""


def check_origin(origin: Origin) -> Origin:
    """Return `origin` if git can't take it for anything but a repository and a ref.

    Raises:
        InputError: it could be an option, or has control characters, or an unknown protocol.
    """
    for what, text in (("source", origin.source), ("ref", origin.ref)):
        if text and (text.startswith("-") or not _TEXT.fullmatch(text)):
            raise InputError(f"workspace {what} {text[:80]!r} is not well-formed")
    scheme, mark, _ = origin.source.partition("::")
    if mark and re.fullmatch(r"[\w-]+", scheme):
        raise InputError(
            f"workspace source {origin.source[:80]!r} names a helper program of git",
            hint="Give a path, or a URL with https or ssh.",
        )
    return origin


def workspace_name(work_id: str) -> str:
    """The last part of a workspace's path: the id's letters, and a digest that tells ids apart.

    Safe as a file name and a branch name, also where case does not count.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", work_id.lower()).strip("-")[:_SLUG_CHARS].strip("-")
    digest = hashlib.sha256(work_id.encode()).hexdigest()[:16]
    return f"{slug}-{digest}" if slug else digest


class Workspaces:
    """The workspaces of this host.

    Args:
        root: the folder that they are in; made when it is needed.
        clock: for pauses between two looks at a lock.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._state_folder = root / _STATE
        self._clock = clock

    def path(self, work_id: str) -> Path:
        """Where the workspace of a work item is, or would be."""
        return self._root / workspace_name(work_id)

    def record(self, work_id: str) -> Record | None:
        """What is known of a workspace; None if there is none on this host."""
        if not self._state_folder.is_dir():  # asked at each end of work, and on most hosts there is none
            return None
        return _read(self._record_path(work_id))

    def left(self) -> Iterator[tuple[Record, float]]:
        """The workspaces on this host, at most `LEFT_MAX`, and when each was made or kept last."""
        with suppress(FileNotFoundError):
            for path in sorted(self._state_folder.glob("*.json"))[:LEFT_MAX]:
                record = _read(path)
                if record is not None:
                    yield record, path.stat().st_mtime

    async def open(
        self, work_id: str, origin: Origin, *, digest: str = "", restore: Restore | None = None
    ) -> Path:
        """The workspace of a work item; made if it is not there.

        Args:
            digest: of what was last kept of it, on any host; if this host has something
                older, the tree is made to hold that again.
            restore: gives the bundle of that digest.

        Raises:
            InputError: the origin is not well-formed.
            WorkspaceError: git failed, or there is no such repository or ref.
        """
        check_origin(origin)
        async with self._locked(work_id):
            record, path = self.record(work_id), self.path(work_id)
            if record is None or not (path / ".git").exists():
                await self._remove(work_id, record)
                record = await self._make(work_id, origin)
            if digest and restore is not None and record.digest != digest:
                await self._restore(work_id, restore)
                self._write(replace(record, kept="", digest=digest))
            return path

    async def keep(self, work_id: str, into: Path) -> str | None:
        """Write a bundle of a workspace: its commits since the start, and what is not committed.

        Ignored files, empty folders and what is staged apart are not kept.

        Returns:
            A name for its content, for `kept`; None if it is what was last kept, and
            nothing was written.
        """
        async with self._locked(work_id):
            record, path = self.record(work_id), self.path(work_id)
            if record is None:
                raise WorkspaceError(f"there is no workspace of {work_id!r} on this host")
            head = await _git(path, "rev-parse", "--verify", "HEAD")
            work = await _commit_all(path, head)
            if f"{head} {work}" == record.kept:
                return None
            await _git(path, "update-ref", _WORK_REF, work)
            # A source of one's own gives the rest again; without one the bundle holds all.
            known = [f"^{record.base}"] if record.source else []
            await _git(path, "bundle", "create", "--quiet", str(into), "HEAD", _WORK_REF, *known)
            return f"{head} {work}"

    async def kept(self, work_id: str, kept: str, digest: str) -> None:
        """Remember under which digest the bundle of `keep` was stored."""
        async with self._locked(work_id):
            record = self.record(work_id)
            if record is not None:
                self._write(replace(record, kept=kept, digest=digest))

    async def remove(self, work_id: str) -> None:
        """Remove a workspace; commits on its branch stay in a source that it shares."""
        async with self._locked(work_id):
            await self._remove(work_id, self.record(work_id))

    # --- making and removing -------------------------------------------------

    async def _make(self, work_id: str, origin: Origin) -> Record:
        path = self.path(work_id)
        if not origin.source:
            base = await _make_empty(path)
        elif origin.is_worktree:
            source = _repository(origin)
            async with self._shared(source):
                base = await _add_worktree(source, path, origin.ref, _BRANCH + path.name)
        else:
            base = await _clone(path, origin, _BRANCH + path.name)
        is_shared = origin.is_worktree and bool(origin.source)
        record = Record(work_id, _without_credentials(origin.source), is_shared, base)
        self._write(record)
        return record

    async def _restore(self, work_id: str, restore: Restore) -> None:
        path = self.path(work_id)
        bundle = self._state() / f"{path.name}.bundle"
        try:
            await restore(bundle)
            refs = [f"HEAD:{_HEAD_REF}", f"{_WORK_REF}:{_WORK_REF}"]
            await _git(path, "fetch", "--quiet", "--force", str(bundle), *refs)
        finally:
            bundle.unlink(missing_ok=True)
        await _git(path, "checkout", "--quiet", "--force", "-B", _BRANCH + path.name, _HEAD_REF)
        await _git(path, "clean", "--quiet", "--force", "-d")
        await _git(path, "read-tree", "-u", "--reset", _WORK_REF)
        await _git(path, "reset", "--quiet", "--mixed", "HEAD")

    async def _remove(self, work_id: str, record: Record | None) -> None:
        """Remove the tree, then the record; a crash in between leaves a record that is made good."""
        path = self.path(work_id)
        shared = Path(record.source) if record is not None and record.is_worktree else None
        if shared is not None:
            with suppress(WorkspaceError):  # the source forgets it; what it can't remove is removed below
                async with self._shared(shared):
                    await _git(shared, "worktree", "remove", "--force", "--force", str(path))
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        if path.exists():
            raise WorkspaceError(f"{path} can't be removed", hint="Look who owns the files in it.")
        if shared is not None and record is not None:
            with suppress(WorkspaceError):  # it is gone, or has commits of its own: then it stays
                branch = _BRANCH + path.name
                if await _git(shared, "rev-parse", "--verify", f"refs/heads/{branch}") == record.base:
                    await _git(shared, "branch", "--quiet", "-D", branch)
        self._record_path(work_id).unlink(missing_ok=True)

    # --- files beside the workspaces -----------------------------------------

    def _state(self) -> Path:
        self._state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._state_folder

    def _record_path(self, work_id: str) -> Path:
        return self._state_folder / f"{workspace_name(work_id)}.json"

    def _write(self, record: Record) -> None:
        """Write a record, whole or not at all."""
        path = self._record_path(record.work_id)
        draft = path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    @asynccontextmanager
    async def _locked(self, work_id: str) -> AsyncIterator[None]:
        """Nobody else on this host touches the workspace meanwhile."""
        number = int(hashlib.sha256(work_id.encode()).hexdigest()[:8], 16) % LOCKS
        async with _locked(self._state() / f"lock-{number}", self._clock):
            yield

    @asynccontextmanager
    async def _shared(self, source: Path) -> AsyncIterator[None]:
        """Nobody else of Roost touches the worktrees of a repository meanwhile.

        `git worktree add` reads the others, and fails on one that is half-made.
        """
        git_dir = await _git(source, "rev-parse", "--path-format=absolute", "--git-common-dir")
        async with _locked(Path(git_dir) / "roost.lock", self._clock):
            yield


@asynccontextmanager
async def _locked(path: Path, clock: Clock) -> AsyncIterator[None]:
    """Hold the lock of a file; it ends with this process, too."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = clock.monotonic() + LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic() > until:
                    raise WorkspaceError(f"the lock {path} is in other hands") from None
            await clock.sleep(_LOCK_PAUSE_SECONDS)
        yield
    finally:
        os.close(file)


def _read(path: Path) -> Record | None:
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # not there, or cut off by a power failure: made anew


# --- git ------------------------------------------------------------------------


async def _make_empty(path: Path) -> str:
    await _git(path.parent, "init", "--quiet", "--initial-branch=main", str(path))
    await _git(path, "commit", "--quiet", "--allow-empty", "--no-gpg-sign", "-m", "An empty workspace")
    return await _git(path, "rev-parse", "HEAD")


def _repository(origin: Origin) -> Path:
    source = Path(origin.source)
    if not source.is_absolute() or not source.exists():
        raise WorkspaceError(
            f"there is no folder {_without_credentials(origin.source)!r} for worktrees",
            hint="Give the absolute path of a repository on this host, or take a clone.",
        )
    return source


async def _add_worktree(source: Path, path: Path, ref: str, branch: str) -> str:
    base = await _commit_of(source, ref)
    start = ["-b", branch, str(path), base]
    with suppress(WorkspaceError):  # no such branch; else it holds what was committed there before
        await _git(source, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
        start = [str(path), branch]
    await _git(source, "worktree", "add", "--quiet", "--force", *start)
    return base


async def _clone(path: Path, origin: Origin, branch: str) -> str:
    await _git(path.parent, "clone", "--quiet", "--no-checkout", "--", origin.source, str(path))
    base = await _commit_of(path, origin.ref)
    await _git(path, "checkout", "--quiet", "-B", branch, base)
    return base


async def _commit_of(repository: Path, ref: str) -> str:
    """The commit that a branch (here, or of the origin), tag or id stands for."""
    for name in (ref, f"refs/remotes/origin/{ref}"):
        with suppress(WorkspaceError):
            return await _git(
                repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
            )
    raise WorkspaceError(f"{repository} has no commit {ref!r}", hint="Check the source and ref.")


async def _commit_all(path: Path, head: str) -> str:
    """A commit of all that is in the working tree, beside the branch and the index."""
    git_dir = Path(await _git(path, "rev-parse", "--absolute-git-dir"))
    index = git_dir / "roost-index"  # stays, so that unchanged files need not be read again
    index.with_name("roost-index.lock").unlink(missing_ok=True)  # of a process that died
    env = {"GIT_INDEX_FILE": str(index)}
    await _git(path, "add", "--all", env=env)
    tree = await _git(path, "write-tree", env=env)
    return await _git(path, "commit-tree", tree, "-p", head, "-m", "What is not committed")


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process' environment, but for what would steer git elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    ssh = {name: os.environ[name] for name in ("GIT_SSH", "GIT_SSH_COMMAND") if name in os.environ}
    fixed = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": _PROTOCOLS, "LC_ALL": "C"}
    return {**kept, **ssh, **fixed, **_IDENTITY, **extra}


async def _git(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run git in a folder; gives what it printed.

    Raises:
        WorkspaceError: it failed, took too long, or is not installed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", *_QUIET, "-C", str(folder), *arguments),
            env=_environment(env or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise WorkspaceError("git is not installed", hint="Workspaces need it.") from None
    try:
        async with asyncio.timeout(GIT_TIMEOUT_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        raise WorkspaceError(f"git {arguments[0]} took longer than {GIT_TIMEOUT_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        said = _without_credentials(err.decode(errors="replace").strip())[-400:]
        raise WorkspaceError(f"git {arguments[0]} failed: {said or f'exit code {process.returncode}'}")
    return out.decode(errors="replace").strip()


def _without_credentials(text: str) -> str:
    return _CREDENTIALS.sub(r"\1", text)
