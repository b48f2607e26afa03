"""From the last committed snapshot to what a step makes of it, under the lease of a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from roost.core import bodies, directives, migration
from roost.core.attempt import Limits, Outcome, Refused, Stepped, run_init, run_step
from roost.core.company import Company
from roost.core.context import Artifacts, Context
from roost.core.contract import describe_contract
from roost.core.cpu import Meter
from roost.core.inbox import Given, Inbox
from roost.core.observe import Held, Told
from roost.core.parts import Parts
from roost.core.recording import Recording
from roost.core.switches import Switches
from roost.core.workspaces import StepWorkspace
from roost.engine import EngineRegistry, EngineSpec
from roost.errors import PayloadError
from roost.models import Snapshot
from roost.storage.codec import Base
from roost.storage.ports import Delivery


class Attempting(Recording):
    """A session as it loads what its work item is, and runs one step after the other.

    Args:
        is_draining: whether the worker wants its leases back.
        executor: runs engines that are plain functions.

    Attributes:
        step_ends_at: monotonic instant at which a limit stops the step that runs.
        meter: counts the CPU that steps use; None: nobody does.
    """

    def __init__(
        self,
        parts: Parts,
        engines: EngineRegistry,
        worker_id: str,
        delivery: Delivery,
        *,
        is_draining: Callable[[], bool],
        executor: Executor | None = None,
        switches: Switches | None = None,
        company: Company | None = None,
    ) -> None:
        super().__init__(parts, engines, worker_id, delivery, switches, company)
        self.step_ends_at: float | None = None
        self.meter = None if parts.cpu is None else Meter(parts.cpu)
        self._is_draining = is_draining
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._snapshot: bodies.Dumped | None = None  # the last committed one; None before the first
        self._base: Base | None = None
        self._inbox = Inbox(parts, delivery.work_id)
        # of the attempt that runs, or ran last:
        self._created_at = 0.0  # of its snapshot
        self._known_digests: set[str] = set()  # artifacts that its snapshot named
        self._given = Given()
        self._spent: dict[str, float] = {}  # what it says it has used up

    async def _load_item(self, spec: EngineSpec) -> None:
        first = self._first or await self._get(0)
        if self._parts.observer is not None and self._claimed is not None:
            tail, claim = self._claimed
            held = Held(
                self.work_id, spec.engine_id, spec.engine_version, tail.lane, self.worker_id, claim.position
            )
            self._told = Told(
                self._parts.observer, self._parts.clock, held, tail=tail, claim=claim, first=first
            )
        self._item = await self._patiently(lambda: bodies.load_item(self._parts.backend, first))

    async def _load_snapshot(self) -> None:
        position = self._control.snapshot_position
        if position is None:
            return
        entry = await self._get(position)
        raw: bytes = await self._patiently(lambda: bodies.load(self._parts.backend, entry))
        self._snapshot = bodies.Dumped(raw)
        self._base = Base(entry.position, raw, entry.body.depth if entry.body else 0)

    async def _attempt(self, spec: EngineSpec) -> Outcome:
        """Run the next step on a fresh copy of the last committed snapshot."""
        snapshot = await self._before_step(spec)
        if not isinstance(snapshot, Snapshot):
            return snapshot
        self._created_at = snapshot.created_at
        self._known_digests = {artifact.digest for artifact in snapshot.artifacts}
        self._spent = {}
        self._given = Given()
        if self._inbox.may_give(self._control):
            self._given = await self._patiently(lambda: self._inbox.read(self._control))
        context = self._context(snapshot)
        if self._told is not None:
            self._told.step_entered(snapshot.step)
        outcome = await run_step(spec, snapshot, self._item, context, self._limits(spec))
        self.step_ends_at = None
        return outcome

    async def _before_step(self, spec: EngineSpec) -> Snapshot | Outcome:
        """What the step begins from: a copy that nobody else has; or why there is none."""
        if self._snapshot is None and self._item.forked_from is not None:
            first = self._first or await self._get(0)
            self._snapshot = await self._patiently(lambda: bodies.load_forked(self._parts.backend, first))
        if self._snapshot is None:
            outcome = await run_init(spec, self._item, self._limits(spec))
            if not isinstance(outcome, Stepped):
                return outcome
            now = self._parts.clock.now()
            try:
                self._snapshot = bodies.dump_snapshot(outcome.snapshot, created_at=now, now=now)
            except PayloadError as error:
                return Refused(describe_contract(error))
        control = self._control
        is_own = control.snapshot_position is None and self._item.forked_from is None  # from init_snapshot
        snapshot = bodies.load_snapshot(
            self._snapshot,
            work_id=self.work_id,
            engine=self._item.engine,
            version=control.version,
            engine_version=spec.engine_version if is_own else control.engine_version,
        )
        directives.clear(snapshot)
        if migration.is_needed(spec, snapshot):
            migrated = await migration.migrate(spec, snapshot, self._limits(spec))
            if not isinstance(migrated, Stepped):
                return migrated
            snapshot = migrated.snapshot
        return snapshot

    def _context(self, snapshot: Snapshot) -> Context:
        """What the step sees of its surroundings."""
        assert self.token is not None
        return Context(
            snapshot=snapshot,
            token=self.token,
            attempt=self._control.failures + 1,
            rewound=self._control.rewound,
            artifacts=Artifacts(self._parts.backend.artifacts, self._parts.clock),
            workspace=StepWorkspace(self._parts.workspaces, self._parts.backend.artifacts, snapshot),
            recorder=self,
            given=self._given,
            spent=self._spent,
            signer=self._parts.settings.approvals,
            interruption=self.interruption,
            is_cancelled=lambda: self._control.cancel_requested or self._is_draining(),
            report=self._report,
            lines=self.lines,
            loop=self._loop,
        )

    def _limits(self, spec: EngineSpec) -> Limits:
        timeout, is_deadline = spec.step_timeout_seconds, False
        deadline_at = self._control.deadline_at
        if deadline_at is not None:
            left = max(0.001, deadline_at - self._parts.clock.now())
            is_deadline = timeout is None or left <= timeout
            timeout = left if is_deadline else timeout
        self.step_ends_at = None if timeout is None else self._parts.clock.monotonic() + timeout
        return Limits(self.interruption, timeout, is_deadline, self._executor, self.meter)
