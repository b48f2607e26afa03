"""One lease of one work item: claim, step on and on, settle.

The whole loop of Roost is here. A session appends at the position after the last entry
it knows. If that position is taken, it reads what stands there: a signal or a request to
cancel is taken in, and the append is made again one further; anything else means that
the lease is gone, and the session ends without a trace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

from msgspec import structs

from roost.core import bodies, claims, directives, marks, newer, outside, step_log, versions
from roost.core.accounts import Purse
from roost.core.attempt import (
    DEADLINE,
    Interrupted,
    Later,
    Outcome,
    Raised,
    Refused,
    Stepped,
)
from roost.core.attempting import Attempting
from roost.core.company import Company
from roost.core.contract import describe_contract
from roost.core.holder import ABANDONED, CANCELLED
from roost.core.observe import end_of, log_fields, why_lost
from roost.core.parts import Parts
from roost.core.redact import describe
from roost.core.switches import Switches
from roost.engine import EngineRegistry, EngineSpec
from roost.errors import (
    ArtifactNotFound,
    EngineContractError,
    InputError,
    LeaseLost,
    SchemaTooNew,
    StorageCorrupt,
)
from roost.journal import claims as rules
from roost.journal import decide, retention
from roost.journal.budget import hold_of
from roost.journal.claims import Acquired, Call, Owner
from roost.journal.entries import Entry
from roost.journal.events import (
    AttemptFailed,
    Blocked,
    Cancelled,
    Committed,
    Deferred,
    Event,
    Failed,
    Released,
)
from roost.journal.values import Amounts, ErrorInfo
from roost.models import Snapshot
from roost.names import Scope
from roost.storage.codec import Base, pack
from roost.storage.ports import Delivery

log = logging.getLogger("roost.session")


Conclusion = tuple[Event, bodies.Dumped | None]
"""What an attempt comes to: the event, and the snapshot that is its body, if it is a commit."""


class Session(Attempting):
    """Runs one work item for as long as one lease lasts.

    Args:
        worker_id: written into the claim.
        delivery: what led here; acknowledged when the session is settled.
        is_draining: whether the worker wants its leases back.
        executor: runs engines that are plain functions.
        switches: what its worker knows of what is paused; None: nothing.
        company: those that run in its worker; None: nobody does.
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
        super().__init__(
            parts,
            engines,
            worker_id,
            delivery,
            is_draining=is_draining,
            executor=executor,
            switches=switches,
            company=company,
        )
        self._purse = Purse(parts, self._switches)
        self._holds_claims = False

    async def run(self) -> None:
        """Do with the delivery what there is to do.

        Raises:
            StorageError: the backend failed for longer than the lease; nothing is lost,
                the delivery comes again.
        """
        try:
            spec = await self._open()
        except SchemaTooNew as error:
            await self._leave_to_newer(error)
            return
        if spec is None:
            return
        log_fields.set(self.log_fields)
        end = "error"
        try:
            await self._work_or_fail(spec)
            end = end_of(self._last, is_draining=self._is_draining())
        except LeaseLost as error:
            end = "lost"
            if self._parts.observer is not None:
                self._parts.observer.lease_lost(why_lost(error))
            extra = {"event": "lease.lost", "work_id": error.work_id, "token": error.token}
            log.warning("%s", error, extra=extra)
        else:
            await self._settle()
        finally:
            if self._told is not None:
                self._told.ended(end)

    async def record_failure(self, error: ErrorInfo) -> None:
        """Put what ended this session on record as a failed attempt, if the lease is held.

        Else the work item would wait for the lease's end, again and again, and end as one
        that kills its workers, which is not what happened.
        """
        if self.token is None:
            return
        tail = await self._patiently(lambda: self._parts.backend.journal.tail(self.work_id))
        lease = tail.control.lease if tail is not None else None
        if lease is None or lease.token != self.token or not self.is_of_this_work(tail):
            return
        self.heard(tail)  # an append may have gone through of which it did not learn
        if (spec := self._spec_for(self._control)) is None:
            return
        await self._append(self._failure(spec, error, self._parts.clock.now()))
        await self._settle()

    def log_fields(self) -> dict[str, object]:
        """What each log line of this session says of it."""
        control = self._control
        spec = self._engines.get(control.engine)
        return {
            "work_id": self.work_id,
            "engine": control.engine,
            "engine_version": spec.engine_version if spec else None,
            "step": control.step,
            "version": control.version,
            "attempt": control.failures + 1,
            "token": self.token,
            "position": control.position,
            "worker_id": self.worker_id,
            "lane": control.lane.value,
        }

    # --- what a newer Roost wrote --------------------------------------------

    async def _leave_to_newer(self, error: SchemaTooNew) -> None:
        """Nobody here can read its journal: newer workers have the delivery for themselves for a while."""
        self._parts.newer.tell(self.work_id, error)
        delay = newer.left_seconds(self.delivery.received_count)
        await self._parts.backend.queue.put_back(self.delivery, delay)

    async def _defer_to_newer(self, error: SchemaTooNew) -> None:
        """It is held, but can't go on here: give it up for a while, at the cost of no attempt.

        If what can't be read is the end of its own journal, where this would be written, then the
        lease is left to its end.
        """
        self._parts.newer.tell(self.work_id, error)
        wake_at = self._parts.clock.now() + newer.LEFT_LONGEST_SECONDS
        try:
            await self._append(Deferred(wake_at, newer.REASON, self._spending(), self.lines.kept()))
        except SchemaTooNew:
            raise LeaseLost(self.work_id, self.token or -1, newer.REASON) from error

    # --- the loop ------------------------------------------------------------

    async def _work_or_fail(self, spec: EngineSpec) -> None:
        try:
            await self._work(spec)
        except StorageCorrupt as error:  # trying again can't help; say what is wrong and stop
            await self._append(Failed(describe(error)))
        except SchemaTooNew as error:
            await self._defer_to_newer(error)

    async def _work(self, spec: EngineSpec) -> None:
        await self._do_effects()
        await self._load_item(spec)
        if await self._is_parked() or not await self._take_claims():
            return
        await self._load_snapshot()
        started, steps = self._parts.clock.monotonic(), 0
        while self._control.lease is not None:
            if await self._stops_between_steps():
                return
            await self._prune()
            if self._must_ask and steps and not await self._take_claims():
                return
            began = self._parts.clock.monotonic()
            if self._told is not None:
                self._told.step_began(self._control)
            outcome = await self._attempt(spec)
            steps += 1
            spent = self._parts.clock.monotonic()
            goes_on = (
                steps < self._parts.settings.burst_steps
                and spent - started < self._parts.settings.burst_seconds
            )
            goes_on = goes_on and not self._is_draining() and not self._is_switched_off()
            event, dumped = await self._conclude(spec, outcome, spent - began, goes_on)
            if self.meter is not None and (cpu_ms := self.meter.take_ms()):
                event = structs.replace(event, cpu_ms=cpu_ms)
            del outcome  # a state that the engine returned is not kept while its commit is under way
            before = self._control
            entry = await (self._append(event) if dumped is None else self._commit(event, dumped))
            marks.tell_own(self._parts, self.work_id, before, entry.control)
            step_log.log_step(entry, spent - began)
            if self._told is not None:
                self._told.step_ended(entry, spent - began)
            if self._control.lease is not None:
                await self._do_effects()

    async def _stops_between_steps(self) -> bool:
        """End the work, or give the lease up, if somebody outside asked for that meanwhile."""
        if self._control.cancel_requested:
            await self._append(Cancelled(self._control.reason))
        elif why := hold_of(self._control):
            await self._append(Released(why))
        else:
            return await self._is_parked()
        return True

    async def _is_parked(self) -> bool:
        """Give the lease up if a budget of the family or the day is used up; whether it was.

        A raise between the look and the entry woke us while we still held the lease, and that
        came to nothing; so look again now that the entry stands.
        """
        if not (self._control.account or self._control.is_daily):
            return False
        over = await self._patiently(lambda: self._purse.over(self._control, self.work_id))
        if over is None:
            return False
        await self._append(Blocked((), over.look_at, over=over.words))
        marks.tell_over(self._parts, self.work_id, self._control.engine, over)
        if not await self._purse.is_still_over(self._control, self.work_id):
            await claims.wake(self._parts, [Call(self.work_id, self._parts.clock.now())])
        return True

    async def _do_effects(self) -> None:
        """Do the effects of entries that may not have had them; the next commit says they are done."""
        if self._control.outbox:
            last = self._last
            self._purse.learn(await self._patiently(lambda: outside.carry_out(self._parts, last)))
            self._done_up_to = last.position

    async def _take_claims(self) -> bool:
        """Acquire the resources for the next step; False if the work item is blocked, and says so now."""
        if not self._item.resources:
            return True
        assert self.token is not None
        ask = claims.ask_of(self._item, self.token, self._last.position)
        answer: Acquired | rules.Refused = await self._patiently(lambda: claims.acquire(self._parts, ask))
        if isinstance(answer, Acquired):
            self._holds_claims = True
            if self._told is not None:
                self._told.claims(has_them=True)
            self._must_ask = answer.is_counted
            return True
        by = tuple(dict.fromkeys([owner.work_id for owner in answer.owners] + list(answer.ahead)))
        entry = await self._append(Blocked(by[:10], answer.retry_at, tuple(answer.limited[:10])))
        step_log.log_blocked(entry)
        # A release between the refusal and the entry above called us while we still held the
        # lease, and that call came to nothing; so look again now that the entry stands.
        now = self._parts.clock.now()
        if await self._parts.backend.claims.is_called(self.work_id, now=now):
            await claims.wake(self._parts, [Call(self.work_id, now)])
        return False

    async def _conclude(
        self, spec: EngineSpec, outcome: Outcome, seconds: float, goes_on: bool
    ) -> Conclusion:
        """The event that an outcome calls for."""
        now = self._parts.clock.now()
        match outcome:
            case Stepped(snapshot):
                return await self._committed(spec, snapshot, seconds, goes_on)
            case Raised(error):
                return self._failure(spec, error, now, seconds), None
            case Refused(error):
                return Failed(error, self._spending(), log=self.lines.kept()), None
            case Later(after_seconds, reason):
                wake_at = now + decide.deferral_seconds(self._control, after_seconds)
                return Deferred(wake_at, reason, self._spending(), self.lines.kept()), None
            case Interrupted(why):
                return self._interrupted(why), None

    def _interrupted(self, why: str) -> Event:
        if why == CANCELLED:
            return Cancelled(self._control.reason, self._spending(), log=self.lines.kept())
        if why == ABANDONED:
            return Released(why, self._spending())
        assert self.token is not None
        raise LeaseLost(self.work_id, self.token, why)

    def _spending(self) -> Amounts:
        """What the attempt that ends here says it has used up."""
        return tuple(sorted(self._spent.items())) if self._spent else ()

    def _failure(self, spec: EngineSpec, error: ErrorInfo, now: float, seconds: float = 0.0) -> Event:
        deadline_at = self._control.deadline_at
        if deadline_at is not None and deadline_at <= now:
            text = f"not done by its deadline; the last error: {error.message}"
            return Failed(ErrorInfo(DEADLINE, text), self._spending(), log=self.lines.kept())
        failures = self._control.failures + 1
        retry_at: float | None = None
        if failures < spec.retry.max_attempts:
            retry_at = now + spec.retry.delay_seconds(failures, self._parts.ids.uniform(0.0, 1.0))
        return AttemptFailed(error, retry_at, round(seconds, 6), self._spending(), log=self.lines.kept())

    async def _committed(
        self, spec: EngineSpec, snapshot: Snapshot, seconds: float, goes_on: bool
    ) -> Conclusion:
        """The commit of a snapshot; or the failure that it is, if it can't be committed."""
        now = self._parts.clock.now()
        control = self._control
        try:
            directives.declare(snapshot, spec.signal_shapes)
            dumped = bodies.dump_snapshot(snapshot, created_at=self._created_at, now=now)
            await self._check_artifacts(snapshot)
            follows = directives.read(snapshot, control, self._given.consumed, self._engines, now)
        except (InputError, EngineContractError, ArtifactNotFound) as error:
            return Failed(describe_contract(error), self._spending(), log=self.lines.kept()), None
        event = Committed(
            version=control.version + 1,
            step=snapshot.step,
            lease_until=now + self._parts.settings.lease_seconds if goes_on else None,
            wake_at=follows.wake_at,
            waits=follows.waits,
            is_finished=snapshot.is_finished,
            duration_seconds=round(seconds, 6),
            engine_version=spec.engine_version,
            consumed=tuple(sorted(self._given.consumed)) if self._given.consumed else (),
            artifacts=tuple([artifact.digest for artifact in snapshot.artifacts[-10:]]),
            spawned=follows.spawned,
            bound=follows.bound,
            has_spawned=bool(snapshot.spawn),
            spent=self._spending(),
            warning=self._purse.warning(control, self.work_id),
            log=self.lines.kept(step_log.KEPT_COMMITTED_MAX_CHARS),
        )
        return event, dumped

    async def _commit(self, event: Event, dumped: bodies.Dumped) -> Entry:
        body = pack(dumped.raw, self._base)
        if self._told is not None:
            self._told.sizes(len(dumped.raw), len(body.data))
        if len(body.data) > self._parts.backend.inline_max_bytes:
            body = await self._patiently(lambda: bodies.spill(self._parts.backend, body))
        self._snapshot = self._base = None  # no step comes before the commit stands, or none at all
        entry = await self._append(event, body)
        if self._company is not None:
            self._company.moved_on(self)
        self._spent = {}
        self._snapshot = dumped
        self._base = Base(entry.position, dumped.raw, body.depth)
        self._forget_progress()
        return entry

    async def _prune(self) -> None:
        """Now and then drop snapshots that need not be kept; costs nothing where all are."""
        keep, version = self._parts.settings.keep_versions, self._control.version
        if version and version % retention.TRIM_EVERY == 0 and retention.is_endless(self._control):
            await self._patiently(lambda: versions.trim(self._parts, self._last))
        if keep is not None and version and version % keep == 0:
            await self._patiently(lambda: versions.prune(self._parts, self._last, keep))

    async def _check_artifacts(self, snapshot: Snapshot) -> None:
        """Refuse a snapshot that names an artifact which isn't stored."""
        for artifact in snapshot.artifacts:
            if artifact.digest in self._known_digests:
                continue
            size = await self._patiently(partial(self._parts.backend.artifacts.size, artifact.digest))
            if size is None:
                raise ArtifactNotFound(
                    f"the snapshot names artifact {artifact.name!r}, which was never stored"
                )

    # --- settling ------------------------------------------------------------

    async def _settle(self) -> None:
        """Do what follows from the last entry, then acknowledge the delivery.

        A crash anywhere in here leaves a due row (or the delivery) behind; the claims are
        freed by whoever wants the resources next.
        """
        until = self._parts.clock.monotonic() + self._parts.settings.lease_seconds
        await self._parts.patiently(lambda: outside.after(self._parts, self._last), until=until)
        await self._parts.patiently(self._give_up_claims, until=until)
        await self._parts.patiently(
            lambda: self._parts.backend.queue.acknowledge([self.delivery]), until=until
        )
        if self._parts.workspaces is not None and self._control.state.is_terminal:
            await self._parts.workspaces.tidy(self.work_id, self._control.state)

    async def _give_up_claims(self) -> None:
        """Give up what the lease held, or all that the work held if it ended. Costs nothing
        where nothing was held."""
        if not self._holds_claims or self.token is None:
            return
        if self._control.state.is_terminal:
            await claims.leave(self._parts, self._last)
        elif self._item.resource_scope is Scope.STEP:
            created_at = self._control.created_at
            await claims.release(self._parts, Owner(self.work_id, self.token, created_at=created_at))
