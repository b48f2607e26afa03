"""One loop per worker keeps the leases of all its sessions."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from weakref import WeakKeyDictionary, ref

from msgspec.structs import replace

from roost.core.observe import NO_HEARTBEAT
from roost.core.parts import Parts
from roost.core.pulse import Pulse
from roost.core.session import Session
from roost.errors import UNREADABLE, StorageError
from roost.journal.projection import LEASE_GRACE_SECONDS, project
from roost.storage.ports import DELIVERY_BATCH_MAX, Renewal

log = logging.getLogger("roost.heartbeat")

PROGRESS_SECONDS = 1.0  # how soon a step's progress shows
SILENCE_LEASES = 2  # without a beat for so many leases the loop counts as stuck: all are lost by then
_SILENCE_SECONDS = 30.0  # on top, so that short leases make nobody nervous
FIRST_BEAT_SECONDS = 1.0  # work that is over sooner has no row of its own while it runs
BLOCKED_SECONDS = 1.0  # by which a beat is late before anybody is told
NAMED_MAX = 8  # sessions that a late beat names
DEAF_SECONDS = 5.0  # what a step may take to end once it was stopped; then its lease is not kept
LEASE_MARGIN = 0.1  # a lease that no heartbeat reached is given up this part of it early


class Heartbeat:
    """Extends deliveries and renews index rows, every third of the lease.

    Args:
        sessions: those of the worker; read at each beat.
    """

    def __init__(self, parts: Parts, sessions: Collection[Session]) -> None:
        self._parts = parts
        self._sessions = sessions
        self.pulse = Pulse(
            parts.clock, "heartbeat", SILENCE_LEASES * parts.settings.lease_seconds + _SILENCE_SECONDS
        )
        # Weak: a session that has ended, and its snapshots, are not kept until the next beat.
        self._next_at: WeakKeyDictionary[Session, float] = WeakKeyDictionary()
        self._stopped_at: WeakKeyDictionary[Session, float] = WeakKeyDictionary()

    async def run(self) -> None:
        """Beat until cancelled."""
        third = self._parts.settings.lease_seconds / 3
        while True:
            self.pulse.beat()
            pause, slept_at = min(third, PROGRESS_SECONDS), self._parts.clock.monotonic()
            await self._parts.clock.sleep(pause)
            self._tell_if_blocked(self._parts.clock.monotonic() - slept_at - pause)
            await self.beat()

    def _tell_if_blocked(self, late_seconds: float) -> None:
        """Say so if the loop stood still: no lease is renewed then, and no other step goes on.

        A step that is a coroutine and does not await does that; as a plain `def` it would run in
        a thread. A process that was stopped, or a machine with too much to do, looks the same.
        """
        if late_seconds < BLOCKED_SECONDS:
            return
        if self._parts.observer is not None:
            self._parts.observer.loop_blocked(late_seconds)
        for session in [one for one in self._sessions if one.token is not None][:NAMED_MAX]:
            fields = session.log_fields()
            log.warning(
                "the event loop stood still for %.1f s while %s was at step %s of engine %s; "
                "a step that blocks is to be a plain `def`, which runs in a thread",
                late_seconds,
                session.work_id,
                fields["step"] or "start",
                fields["engine"],
                extra={"event": "loop.blocked", "blocked_seconds": round(late_seconds, 3), **fields},
            )

    async def beat(self) -> None:
        """Renew what is due; interrupt sessions whose lease is gone or ran out."""
        started = self._parts.clock.monotonic()
        self._stop_cancelled()
        # Of hundreds that are due many end while others are renewed; none is kept by its turn to come.
        due = [ref(session) for session in self._held(started) if self._is_due(session, started)]
        try:
            for start in range(0, len(due), DELIVERY_BATCH_MAX):
                if batch := _still_held(due[start : start + DELIVERY_BATCH_MAX]):
                    await self._renew(batch, started)
        except StorageError as error:
            log.warning("heartbeat failed, trying again: %s", error, extra={"event": "heartbeat.failed"})
        margin = self._parts.settings.lease_seconds * LEASE_MARGIN
        now = self._parts.clock.monotonic()
        for session in self._held(now):
            if session.held_until - margin <= now:
                session.interruption.stop(NO_HEARTBEAT)

    def _stop_cancelled(self) -> None:
        for session in self._sessions:
            if session.token is not None:
                session.stop_if_cancelled()

    def _held(self, now: float) -> Sequence[Session]:
        """Sessions whose leases are to be kept."""
        held = [session for session in self._sessions if session.token is not None]
        return [session for session in held if not self._is_deaf(session, now)]

    def _is_due(self, session: Session, now: float) -> bool:
        if session not in self._next_at:
            self._next_at[session] = self._first_at(session)
        return session.has_progress or self._next_at[session] <= now

    def _first_at(self, session: Session) -> float:
        """When a session's first beat is due: at once, unless its row is yet to be written.

        A row is worth its writes only for work that is not over in a moment.
        """
        if session.is_row_written:
            return 0.0
        lease_seconds = self._parts.settings.lease_seconds
        return session.held_until - lease_seconds + min(FIRST_BEAT_SECONDS, lease_seconds / 3)

    def _is_deaf(self, session: Session, now: float) -> bool:
        """Whether a step goes on although it was stopped a while ago; its lease is left to its end."""
        stopped_at = session.step_ends_at
        if session.interruption.why is not None:
            stopped_at = self._stopped_at.setdefault(session, now)
        return stopped_at is not None and now > stopped_at + DEAF_SECONDS

    async def _renew(self, sessions: Sequence[Session], started: float) -> None:
        """One batch: all its deliveries, then all its rows."""
        await self._parts.backend.queue.extend(
            [session.delivery for session in sessions], self._parts.settings.lease_seconds
        )
        tokens = [(session, token) for session in sessions if (token := session.token) is not None]
        until = self._parts.clock.now() + self._parts.settings.lease_seconds
        renewed = await self._renew_rows(tokens, until)
        self._tell_renewed(
            [session for (session, _), done in zip(tokens, renewed, strict=True) if done], started
        )
        for (session, token), is_renewed in zip(tokens, renewed, strict=True):
            if is_renewed or await self._is_still_held(session, token, until):
                session.extended(started)
                self._next_at[session] = started + self._parts.settings.lease_seconds / 3
            elif session.token == token:
                session.interruption.stop("another worker holds the lease")

    def _tell_renewed(self, sessions: Sequence[Session], started: float) -> None:
        if self._parts.observer is None:
            return
        reasons = Counter("due" if self._next_at[one] <= started else "progress" for one in sessions)
        for reason, count in reasons.items():
            self._parts.observer.renewed(reason, count)

    async def _renew_rows(self, sessions: Sequence[tuple[Session, int]], until: float) -> Sequence[bool]:
        """Move the leases of index rows forward.

        Where an append does not write the row, this is what refreshes it; work that is
        over before its first beat costs no row of its own. A row that is ahead of its
        holder says that somebody outside appended: the journal is asked.
        """
        due_at = until + LEASE_GRACE_SECONDS
        index = self._parts.backend.index
        if self._parts.backend.projects_on_append:
            renewals = [Renewal(s.work_id, token, until, due_at, s.take_progress()) for s, token in sessions]
            moved = await index.renew(renewals)
            return [
                is_moved and not await self._is_ahead(s)
                for (s, _), is_moved in zip(sessions, moved, strict=True)
            ]
        renewed = []
        for session, _ in sessions:
            row = project(session.last_entry)
            row = replace(row, lease_until=until, due_at=due_at, progress=session.take_progress())
            session.is_row_written = True
            # Without a token the session gave its lease up meanwhile; the row is its outbox's then.
            renewed.append(row.token is None or await index.put(row))
        return renewed

    async def _is_ahead(self, session: Session) -> bool:
        """Whether the row shows an entry that the session has not seen."""
        row = await self._parts.backend.index.get(session.work_id)
        return row is not None and row.position > session.last_entry.position

    async def _is_still_held(self, session: Session, token: int, until: float) -> bool:
        """Ask the journal, since a row may lag; and tell the session what is new."""
        try:
            tail = await self._parts.backend.journal.tail(session.work_id)
        except UNREADABLE as error:  # of this work; the others' leases are renewed
            session.interruption.stop(f"its journal can't be read: {error}")
            return False
        lease = tail.control.lease if tail is not None and session.is_of_this_work(tail) else None
        if tail is None or lease is None or lease.token != token:
            return False
        session.heard(tail)
        if not self._parts.backend.projects_on_append:
            row = replace(project(tail), lease_until=until, due_at=until + LEASE_GRACE_SECONDS)
            await self._parts.backend.index.put(row)
        return True


def _still_held(known: Sequence[ref[Session]]) -> Sequence[Session]:
    return [session for to in known if (session := to()) is not None and session.token is not None]
