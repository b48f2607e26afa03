"""What every part of the core is given: the backend, the clock, ids and the settings."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from roost.clock import Clock, Ids
from roost.core.newer import Newer
from roost.core.observe import Observer
from roost.core.tokens import Signer
from roost.core.workspaces import HostWorkspaces
from roost.errors import UNREADABLE, StorageError
from roost.journal.values import Amounts
from roost.models import Lane
from roost.rules import Trigger
from roost.storage.ports import Backend

log = logging.getLogger("roost")

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """How workers behave; all times in seconds.

    Attributes:
        lease_seconds: how long a lease lasts without a heartbeat.
        concurrency: work items that one worker runs at a time.
        burst_steps, burst_seconds: a lease is handed on after so many steps or so long,
            so that one long work item does not starve others.
        sweep_seconds: mean time between two sweeps of one worker.
        grace_seconds: how long a running step may go on after the worker is told to stop.
        wait_seconds: how long one receive waits for a delivery.
        retention_seconds: how long work is kept after it ended; None: for ever.
        keep_versions: how many of the newest snapshots of a work item are kept, besides
            milestones (`journal/retention.py`); None: all.
        lanes: the priority lanes that a worker serves.
        triggers: what follows when work ends, by name.
        daily_budget: what each namespace may use up in a day (UTC), where no operator has set
            another for it; empty: as much as it likes.
        approvals: signs the tokens of approvals.
    """

    lease_seconds: float = 30.0
    concurrency: int = 8
    burst_steps: int = 200
    burst_seconds: float = 20.0
    sweep_seconds: float = 5.0
    grace_seconds: float = 20.0
    wait_seconds: float = 20.0
    retention_seconds: float | None = None
    keep_versions: int | None = None
    lanes: tuple[Lane, ...] = (Lane.HIGH, Lane.NORMAL, Lane.LOW)
    triggers: Mapping[str, Trigger] = field(default_factory=dict)
    daily_budget: Amounts = ()
    approvals: Signer = field(default_factory=Signer)


@dataclass(frozen=True, slots=True)
class Parts:
    """The surroundings of client, worker, session and sweeper.

    Attributes:
        workspaces: of this host; None: steps can't have one.
        observer: is told what happens; None: nobody watches.
        newer: what this process has told of work that is for newer ones.
        cpu: CPU seconds of the thread that asks, for what steps use; None: it is not counted.
    """

    backend: Backend
    clock: Clock
    ids: Ids
    settings: CoreSettings = field(default_factory=CoreSettings)
    workspaces: HostWorkspaces | None = None
    observer: Observer | None = None
    newer: Newer = field(default_factory=Newer)
    cpu: Callable[[], float] | None = None

    async def patiently(self, call: Callable[[], Awaitable[T]], *, until: float) -> T:
        """Make a call again while the backend fails, with growing, jittered pauses.

        Only for calls that are idempotent, as appends are (an entry's id settles them).

        Args:
            until: monotonic instant; the last try starts before it.

        Raises:
            StorageError: the backend still failed then, or what is stored is corrupt, or of a newer Roost.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await call()
            except UNREADABLE:
                raise
            except StorageError as error:
                if self.clock.monotonic() + pause >= until:
                    raise
                log.warning("storage failed, trying again: %s", error)
            await self.clock.sleep(self.ids.uniform(pause / 2, pause))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
