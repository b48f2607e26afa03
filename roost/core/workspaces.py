"""Workspaces as steps see them: opened when asked for, kept with the commit, removed at the end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from roost.errors import WorkspaceError
from roost.models import Artifact, Snapshot
from roost.names import State
from roost.storage.ports import ArtifactStore, Journal
from roost.workspace import Origin, Workspaces

log = logging.getLogger("roost.workspace")

KEPT_NAME = "workspace.bundle"
"""The artifact that a kept workspace is stored as: a git bundle, the newest in the snapshot counts."""

_MEDIA_TYPE = "application/x-git-bundle"


class HostWorkspaces(Struct, frozen=True):
    """The workspaces of this host, and what the settings say of them.

    Attributes:
        origin: where they come from, if the engine does not say.
        removes: when one is removed: see `config.WorkspaceSettings`.
        saves: whether they are kept as artifacts.
        expired_seconds: work that is unknown to the journal counts as expired, if its
            workspace was last touched so long ago; None: never.
    """

    workspaces: Workspaces
    origin: Origin
    removes: Literal["done", "ended", "never"] = "done"
    saves: bool = False
    expired_seconds: float | None = None

    def is_to_go(self, state: State | None) -> bool:
        """Whether the workspace of work in this state (None: it has expired) is to be removed."""
        if self.removes == "never":
            return False
        if state is None or (self.removes == "ended" and state.is_terminal):
            return True
        return state in (State.DONE, State.CANCELLED)

    async def tidy(self, work_id: str, state: State | None) -> bool:
        """Remove a workspace if it is to go; whether it went. If it can't be, the next look tries again."""
        if not self.is_to_go(state) or self.workspaces.record(work_id) is None:
            return False
        try:
            await self.workspaces.remove(work_id)
        except WorkspaceError as error:
            log.warning("%s: %s", work_id, error, extra={"event": "workspace.stays", "work_id": work_id})
            return False
        return True

    async def tidy_all(self, journal: Journal, now: float) -> int:
        """Remove what is left here of work that ended wherever it did; returns how many went."""
        count = 0
        for record, touched_at in list(self.workspaces.left()):
            tail = await journal.tail(record.work_id)
            if tail is not None:
                count += await self.tidy(record.work_id, tail.control.state)
            elif self.expired_seconds is not None and touched_at < now - self.expired_seconds:
                count += await self.tidy(record.work_id, None)
        return count


class StepWorkspace:
    """The workspace of one attempt.

    Args:
        host: None where the surroundings have no workspaces.
        snapshot: what the step begins from; names the artifact that was kept last.
    """

    def __init__(self, host: HostWorkspaces | None, store: ArtifactStore, snapshot: Snapshot) -> None:
        self._host = host
        self._store = store
        self._work_id = snapshot.work_id
        self._last = _kept(snapshot.artifacts)
        self.is_used = False

    async def open(self, source: str | None, ref: str | None) -> Path:
        """See `StepContext.workspace`."""
        if self._host is None:
            raise WorkspaceError("there are no workspaces here", hint="Run the step under a worker.")
        origin = self._host.origin
        origin = replace(
            origin,
            source=origin.source if source is None else source,
            ref=origin.ref if ref is None else ref,
        )
        if "://" in origin.source:
            origin = replace(origin, is_worktree=False)  # only a repository on this host can be shared
        path = await self._host.workspaces.open(
            self._work_id, origin, digest=self._last.digest if self._last else "", restore=self._restore
        )
        self.is_used = True
        return path

    async def _restore(self, into: Path) -> None:
        assert self._last is not None
        with into.open("wb") as file:
            async for chunk in self._store.read(self._last.digest):
                file.write(chunk)

    async def keep(self, returned: Snapshot, now: float) -> None:
        """Store the workspace as an artifact of the snapshot that is about to be committed.

        Nothing is stored where the step did not use it, or nothing has changed; work that
        ends keeps its last state as well.
        """
        if self._host is None or not self.is_used or not self._host.saves:
            return
        with TemporaryDirectory(prefix="roost-") as folder:
            bundle = Path(folder) / KEPT_NAME
            kept = await self._host.workspaces.keep(self._work_id, bundle)
            if kept is None:
                if self._last is not None and self._last not in returned.artifacts:
                    returned.artifacts = [*returned.artifacts, self._last]
                return
            blob = await self._store.put(_chunks(bundle))
        artifact = Artifact(
            name=KEPT_NAME,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            content_type=_MEDIA_TYPE,
            created_at=now,
        )
        await self._host.workspaces.kept(self._work_id, kept, blob.digest)
        returned.artifacts = [*(a for a in returned.artifacts if a.name != KEPT_NAME), artifact]


def _kept(artifacts: Sequence[Artifact]) -> Artifact | None:
    """The newest workspace among artifacts."""
    return next((a for a in reversed(artifacts) if a.name == KEPT_NAME), None) if artifacts else None


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 18):
            yield chunk
