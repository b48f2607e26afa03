"""What operators do to work: end it, hold it, bring it back, and copy it; one item or many.

Each is an entry in the journal, with who and why. `Client` has all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from roost.core import accounts, bulk, deeds, forks, new_work, outside, switches, versions
from roost.core.bulk import AS_USUAL, Action, Chosen, How, Part
from roost.core.contract import check_span
from roost.core.deeds import Deed
from roost.core.ends import has_told, is_left_behind
from roost.core.parts import Parts
from roost.core.requests import Request
from roost.core.where import Where
from roost.errors import ConflictError, InputError, WorkNotFound
from roost.journal import retention
from roost.journal.accounts import Account, Balance, day_of
from roost.journal.entries import Entry
from roost.journal.events import (
    BudgetSet,
    CancelRequested,
    Committed,
    DailySet,
    Enqueued,
    Event,
    Operated,
    Paused,
    Resumed,
    Retried,
    Switch,
    Switched,
)
from roost.journal.lines import engine_target, lane_target, worker_target
from roost.journal.values import Amounts
from roost.names import NAMESPACE_MARK, Lane, check_id, check_name, check_namespace, namespace_of
from roost.storage.ports import DeadLetter

_TRIES = 20  # lost races of an operator's append; each means that the work item moved
_FAMILY_TRIES = 50  # the root of a family may be in the midst of many steps
_RACE_PAUSE_SECONDS = 0.02
_ONLY_ENDED = "That is for work that ended. `roost explain ID` says what this is doing."
_NO_MORE = "It has ended: `roost retry ID` brings it back, `roost fork ID` starts new work from it."
_DONE = {
    Action.CANCEL: "cancelled",
    Action.PAUSE: "paused",
    Action.RESUME: "resumed",
    Action.RETRY: "retried",
}


class Operations:
    """Acts on work, on behalf of `actor`."""

    def __init__(self, parts: Parts, actor: str, namespace: str, request: Request | None = None) -> None:
        self._parts = parts
        self._request = request
        self._actor = actor
        self._namespace = check_namespace(namespace)

    @property
    def actor(self) -> str:
        """Whose name the entries carry."""
        return self._actor

    async def cancel(self, work_id: str, reason: str, *, by_seconds: float | None = None) -> None:
        """Ask for a work item to end.

        A step that runs sees `cancel_requested` within a third of the lease, and may finish.

        Args:
            by_seconds: a step that still runs then is interrupted, and what it has not
                committed is lost; None: it may take as long as it takes.

        Raises:
            InputError: `by_seconds` is negative, or longer than a delay may be.
            WorkNotFound: there is none of that id.
            ConflictError: it has ended already.
        """
        await self._do(Action.CANCEL, reason, How(by_seconds=by_seconds), None, work_id)

    async def pause(self, work_id: str, reason: str, *, for_seconds: float | None = None) -> None:
        """Put a work item on hold; a step that runs is committed first.

        Args:
            for_seconds: it goes on by itself then; None: when it is resumed.

        Raises:
            InputError: `for_seconds` is negative, or longer than a delay may be.
            WorkNotFound: there is none of that id.
            ConflictError: it has ended.
        """
        await self._do(Action.PAUSE, reason, How(for_seconds=for_seconds), None, work_id)

    async def resume(self, work_id: str, reason: str) -> None:
        """Let a work item that is on hold go on.

        Raises:
            WorkNotFound: there is none of that id.
            ConflictError: it has ended.
        """
        await self._do(Action.RESUME, reason, AS_USUAL, None, work_id)

    async def retry(self, work_id: str, reason: str, *, version: int | None = None) -> None:
        """Put work that ended back to life, with fresh attempts.

        Args:
            version: of the snapshot that it goes on from, 0 for its beginning; by default
                the last. If that one waited, the work waits for the same again. Versions
                go on counting, and the history keeps what was.

        Raises:
            InputError: it has no such version, or no longer, or is a schedule.
            WorkNotFound: there is none of that id.
            ConflictError: it has not ended.
        """
        await self._do(Action.RETRY, reason, How(version=version), None, work_id)

    async def _retried(self, work_id: str, reason: str, version: int | None) -> Retried:
        if version is None:
            return Retried(reason)
        await self._check_may_go_back(work_id)
        origin = None if version == 0 else await versions.find(self._parts, self._whole(work_id), version)
        position = -1 if origin is None else origin.position
        waits = versions.waits_again(origin, self._parts.clock.now())
        made = (origin or await self._get(self._whole(work_id), 0)).event
        made_by = made.engine_version if isinstance(made, Committed | Enqueued) else None
        return Retried(reason, position, waits, made_by)

    async def _check_may_go_back(self, work_id: str) -> None:
        tail = await self._tail(self._whole(work_id))
        if retention.is_endless(tail.control):
            raise InputError(
                f"{work_id!r} can't go back to an earlier version: it would enqueue work again",
                hint="Retry it as it is.",
            )

    async def set_budget(self, work_id: str, limits: Mapping[str, float], reason: str) -> None:
        """Set budgets of a work item anew; work that is on hold for them goes on if they suffice.

        Args:
            limits: by name; those that are not named stay.

        Raises:
            InputError: a name or number can't be taken.
            WorkNotFound: there is none of that id.
            ConflictError: it has ended.
        """
        amounts = new_work.amounts(limits)
        await self._act(work_id, BudgetSet(amounts, reason[:500]), "given a budget", is_for_terminal=False)

    async def set_family_budget(self, work_id: str, limits: Mapping[str, float], reason: str) -> None:
        """Set what a family may use up together; all of it that is parked for that goes on if it suffices.

        Args:
            work_id: any work item that is charged to the family's account.
            limits: by name; those that are not named stay.

        Raises:
            InputError: a name or number can't be taken, or the family has no budget.
            WorkNotFound: there is none of that id.
            ConflictError: others of the family move too fast.
        """
        new = new_work.amounts(limits)
        for _ in range(_FAMILY_TRIES):
            if await self._try_family_budget(work_id, new, reason[:500]):
                return
            await self._parts.clock.sleep(self._parts.ids.uniform(0.0, _RACE_PAUSE_SECONDS))
        raise ConflictError(
            f"the family of {work_id!r} moves too fast to be given a budget", hint="Try again."
        )

    async def _try_family_budget(self, work_id: str, new: Amounts, reason: str) -> bool:
        """Set the limits anew that are named; False if the journal that orders them went on meanwhile."""
        member = await self._tail(self._whole(work_id))
        root_id = member.control.account
        if not root_id:
            raise InputError(
                f"the family of {work_id!r} has no budget",
                hint="It is given when the first of it is enqueued: `roost enqueue --family-budget usd=5`.",
            )
        about = await self._parts.backend.journal.tail(root_id) or member
        await accounts.allow_owed(self._parts, about)  # what another operator has just set counts here
        balance = (await accounts.balances(self._parts, member, daily=()))[0]  # the family's comes first
        merged = tuple(sorted((dict(balance.allowed or ()) | dict(new)).items()))
        event = BudgetSet(merged, reason, is_family=True)
        return await outside.append(self._parts, about, event, actor=self._actor) is not None

    async def set_daily_budget(self, limits: Mapping[str, float], reason: str) -> bool:
        """Set what this namespace may use up in a day (UTC), from this one on.

        Args:
            limits: by name, all of them; none: what the settings say.

        Returns:
            Whether it was another before.

        Raises:
            InputError: a name or number can't be taken.
        """
        event = DailySet(self._namespace, new_work.amounts(limits), reason[:500])
        is_new = await switches.throw(self._parts, event, actor=self._actor)
        await accounts.wake(self._parts, self._namespace)
        return is_new

    async def balances(self, work_id: str | None = None) -> list[Balance]:
        """How the accounts stand that a work item is charged to; with None, this namespace's of today."""
        known = switches.Switches(self._parts)
        await known.read()
        if work_id is not None:
            tail = await self._tail(self._whole(work_id))
            return await accounts.balances(self._parts, tail, daily=known.daily(namespace_of(tail.work_id)))
        today = Account(self._namespace, day=day_of(self._parts.clock.now()))
        [balance] = await self._parts.backend.accounts.show([today])
        return [replace(balance, allowed=known.daily(self._namespace))]

    def _instant(self, seconds: float | None) -> float | None:
        """So many seconds from now."""
        if seconds is None:
            return None
        check_span(seconds, "time", hint="That is ten years. Leave it out for no end.")
        return self._parts.clock.now() + seconds

    async def fork(
        self,
        work_id: str,
        version: int,
        reason: str,
        /,
        *,
        changes: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Start new work from a committed version of a work item; returns its id. Durable on return.

        It has the payload, resources and labels of its origin, the snapshot of that version
        with the artifacts that it names, and a history of its own; its origin is recorded,
        and not touched. If that version waited for a signal, the new work waits for it, too.

        Args:
            reason: why, for the entry.
            changes: values by path: `data.x.y` of the snapshot, `payload.x` of the payload.
            options: fields of `NewWork` that are to be others than the origin's, such as
                `engine`, `priority`, `budget`, `deadline_at`; with a `work_id` of its own, it
                is started once however often it is asked for.

        Raises:
            InputError: there is no such version, or it is not kept any more; or a change or
                an option can't be taken.
            WorkNotFound: there is no such work item.
            EnqueueConflict: `work_id` stands for other work.
        """
        work_id = self._whole(work_id)
        await self._tail(work_id)
        new_id = options.pop("work_id", None) or self._parts.ids.work_id()
        fork = forks.Fork(work_id, version, changes or {}, options, reason[:500])
        return await forks.fork(self._parts, fork, self._whole(new_id), actor=self._actor)

    async def bulk(
        self,
        action: Action,
        where: Where,
        reason: str,
        *,
        how: How = AS_USUAL,
        cursor: str | None = None,
        is_dry_run: bool = False,
    ) -> AsyncIterator[Part]:
        """Do the same to all work that matches, part by part, newest first.

        What was done is in each journal, so a run that broke off is continued by another
        like it; with the `cursor` of its last part it need not look at all again.

        Args:
            how: what the action may be told beside the reason.
            is_dry_run: nothing is done; the parts say what would be.

        Raises:
            InputError: the cursor is none, or what it is told is of another action.
        """
        how.check(action)
        chosen = Chosen(action, where.within(self._namespace, self._whole))
        act = partial(self._do, action, reason, how, chosen)
        if action is Action.PURGE and not is_dry_run:
            await self._record(Operated("purge", "all that match", reason, str(where)))
        async for part in bulk.Run(self._parts, chosen, act).parts(cursor, is_dry_run=is_dry_run):
            yield part

    async def bulk_ids(
        self,
        action: Action,
        ids: Sequence[str],
        reason: str,
        *,
        how: How = AS_USUAL,
        where: Where | None = None,
    ) -> Part:
        """Do the same to some work items; those that it can't be done to are skipped.

        Args:
            where: the filter that gave the ids; what does not match it any more is skipped, too.
        """
        if action is Action.PURGE and ids:
            await self._record(Operated("purge", f"{len(ids)} work items", reason, " ".join(ids)))
        chosen = None if where is None else Chosen(action, where.within(self._namespace, self._whole))
        return await bulk.do(partial(self._do, action, reason, how, chosen), ids)

    async def _do(self, action: Action, reason: str, how: How, chosen: Chosen | None, work_id: str) -> None:
        if action is Action.PURGE:
            await self._purge(work_id, chosen)
            return
        event = await self._event(action, reason[:500], how, work_id)
        is_for_terminal = action is Action.RETRY
        await self._act(work_id, event, _DONE[action], is_for_terminal=is_for_terminal, chosen=chosen)

    async def _event(self, action: Action, reason: str, how: How, work_id: str) -> Event:
        match action:
            case Action.CANCEL:
                return CancelRequested(reason, self._instant(how.by_seconds))
            case Action.PAUSE:
                return Paused(reason, self._instant(how.for_seconds), self._actor)
            case Action.RESUME:
                return Resumed(reason)
            case _:
                return await self._retried(work_id, reason, how.version)

    async def pause_engine(self, engine: str, reason: str) -> bool:
        """Let no work of an engine begin in this namespace, as soon as workers have swept once.

        A step that runs is committed first. False: it was paused already.
        """
        target = engine_target(check_id(engine, "engine id"), self._namespace)
        return await self._throw(target, True, reason)

    async def resume_engine(self, engine: str, reason: str) -> int:
        """Let work of an engine begin again; returns how many work items were woken."""
        target = engine_target(check_id(engine, "engine id"), self._namespace)
        await self._throw(target, False, reason)
        return await switches.wake_engine(self._parts, engine, self._namespace)

    async def pause_lane(self, lane: Lane, reason: str) -> bool:
        """Take no work from a lane, of any namespace, as soon as workers have swept once.

        What was taken goes on. False: it was paused already.
        """
        return await self._throw(lane_target(lane), True, reason)

    async def resume_lane(self, lane: Lane, reason: str) -> bool:
        """Take work from a lane again. False: it was not paused."""
        return await self._throw(lane_target(lane), False, reason)

    async def drain_worker(self, worker_id: str, reason: str) -> bool:
        """Ask a worker to stop: it takes no more work once it has swept, commits the steps that run or
        gives them back after its grace period, and ends. False: it is asked already.
        """
        return await self._throw(worker_target(check_name(worker_id, "worker id")), True, reason)

    async def keep_worker(self, worker_id: str, reason: str) -> bool:
        """Ask it no more; one that has seen it stops all the same. False: it was not asked."""
        return await self._throw(worker_target(check_name(worker_id, "worker id")), False, reason)

    async def _throw(self, target: str, is_paused: bool, reason: str) -> bool:
        event = Switched(target, is_paused, reason[:500], self._actor)
        return await switches.throw(self._parts, event, actor=self._actor)

    async def switches(self) -> Sequence[Switch]:
        """What is paused: lanes, and engines of this namespace; and workers that are asked to stop."""
        ours = engine_target("", self._namespace)
        found = await switches.Switches(self._parts).read()
        return [one for one in found if one.target.startswith(ours) or not one.target.startswith("engine:")]

    async def purge(self, work_id: str, reason: str = "") -> None:
        """Delete work that has ended, with its history; what it spawned and forked stays.

        Args:
            reason: why; kept with who and when, see `deeds`.

        Raises:
            WorkNotFound: there is none of that id.
            ConflictError: it has not ended, or storage keeps it for its own order's sake.
        """
        work_id = self._whole(work_id)
        await self._ended(work_id)
        await self._record(Operated("purge", work_id, reason))
        await self._purge(work_id)

    async def _ended(self, work_id: str) -> Entry:
        tail = await self._tail(work_id)
        if not tail.control.state.is_terminal:
            raise ConflictError(
                f"work item {work_id!r} is {tail.control.state}; only what has ended can be purged"
            )
        return tail

    async def _purge(self, work_id: str, chosen: Chosen | None = None) -> None:
        work_id = self._whole(work_id)
        tail = await self._ended(work_id)
        if chosen is not None:
            await chosen.check(self._parts, tail)
        if tail.control.outbox and not await has_told(self._parts, tail):
            await outside.after(self._parts, tail)  # its parent and others wait for it
            tail = await self._ended(work_id)
        if not await self._parts.backend.journal.purge(work_id, tail.position):
            raise ConflictError(
                f"work item {work_id!r} can't be purged now",
                hint="It moved on, or is the newest of all, which storage keeps; try again later.",
            )
        bulk.log_purged(work_id, self._actor)

    async def deeds(self, *, limit: int = 100) -> list[Deed]:
        """What operators did in this namespace that no work item's history tells, newest first.

        Purges, evictions, limits of resources, pauses of engines and lanes, budgets of days,
        messages that were set aside.
        """
        return await deeds.read(self._parts, self._namespace, limit=limit)

    async def _record(self, event: Operated) -> None:
        await deeds.record(self._parts, self._namespace, event, actor=self._actor)

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """Messages that the work queue set aside; see `ports.WorkQueue.dead_letters`."""
        return list(await self._parts.backend.queue.dead_letters(limit))

    async def end_dead_letters(
        self, letters: Sequence[DeadLetter], *, is_sent_again: bool, reason: str = ""
    ) -> None:
        """Send messages that were set aside once more, or drop them. One that names no work is dropped.

        Args:
            reason: why; kept with who and when, see `deeds`.
        """
        if not letters:
            return
        what = "send again" if is_sent_again else "drop"
        named = " ".join(letter.work_id or "-" for letter in letters)
        await self._record(Operated(what, f"{len(letters)} messages set aside", reason, named))
        for letter in letters:
            again = is_sent_again and bool(letter.work_id)
            await self._parts.backend.queue.end_dead_letter(letter, is_sent_again=again)

    def _whole(self, work_id: str) -> str:
        """A work id with its namespace; this client's, where it names none."""
        if not self._namespace or NAMESPACE_MARK in work_id:
            return work_id
        return f"{self._namespace}{NAMESPACE_MARK}{work_id}"

    async def _act(
        self, work_id: str, event: Event, verb: str, *, is_for_terminal: bool, chosen: Chosen | None = None
    ) -> None:
        """Append as an outsider, after what stands."""
        work_id = self._whole(work_id)
        request = self._request
        for _ in range(_TRIES):
            tail = await self._tail(work_id)
            if request is not None and await request.find(self._parts, tail) is not None:
                return
            if tail.control.state.is_terminal is not is_for_terminal:
                raise ConflictError(
                    f"work item {work_id!r} is {tail.control.state}; it can't be {verb}",
                    hint=_ONLY_ENDED if is_for_terminal else _NO_MORE,
                )
            if chosen is not None:
                await chosen.check(self._parts, tail)
            if isinstance(event, Retried):
                await self._check_may_go_on(tail, event)
            entry_id = request.entry_id(work_id) if request is not None else None
            if await outside.append(self._parts, tail, event, actor=self._actor, entry_id=entry_id):
                return
        raise ConflictError(f"work item {work_id!r} moves too fast to be {verb}", hint="Try again.")

    async def _check_may_go_on(self, tail: Entry, event: Retried) -> None:
        """Whether it is here that work may go on, and from a snapshot that stays from now on."""
        if await is_left_behind(self._parts, tail):
            raise ConflictError(f"work item {tail.work_id!r} {tail.control.reason}; it goes on there")
        position = event.snapshot_position
        if position is not None and position >= 0:
            await versions.keep(self._parts, tail.work_id, position)

    async def _tail(self, work_id: str) -> Entry:
        tail = await self._parts.backend.journal.tail(work_id)
        if tail is None:
            raise WorkNotFound(work_id)
        return tail

    async def _get(self, work_id: str, position: int) -> Entry:
        entry = await self._parts.backend.journal.get(work_id, position)
        if entry is None:
            raise WorkNotFound(work_id)
        return entry
