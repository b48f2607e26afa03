"""The built-in engine `roost.schedule`: enqueues work at the times of a cron line.

A schedule is a work item, `schedule:NAME`. Each of its steps spawns work for the ticks
that have come and sleeps until the next; so a tick is enqueued by the commit that moves
on from it, once, however many workers there are. What it is to do stands in its snapshot;
a signal brings a new rule.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from roost.clock import Clock
from roost.engine import RetryPolicy, current_step
from roost.models import Child, Snapshot, WaitFor, WorkItem
from roost.names import SCHEDULE_ENGINE
from roost.rules import SET_SIGNAL, Schedule

_EARLY_SECONDS = 0.5  # how far a worker's clock may lag behind that of the one which woke it
_SURE_SECONDS = 60.0  # a sweeper looks at a wait's timeout within this time
_LONGEST_SECONDS = 366 * 86400.0  # one sleep; a tick that is farther off is looked at again
LABEL_NAME, LABEL_TICK = "schedule", "tick"


class ScheduleEngine:
    """Runs `schedule:NAME` work items.

    The snapshot's data: `rule` (the fields of `rules.Schedule`), `next_at` (the tick that
    comes next; null: none does), `last_at` (the last tick that work was enqueued for) and
    `count` (for how many).

    Args:
        clock: tells when it is time.
    """

    engine_id = SCHEDULE_ENGINE
    retry = RetryPolicy(max_attempts=1_000_000, max_interruptions=1_000_000)
    payload_model = Schedule

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        """Begin with the first tick after the schedule was made."""
        rule = Schedule.model_validate(item.payload)
        next_at = rule.next_tick(item.created_at)
        return Snapshot.of(item, step="tick", data=_data(rule, next_at, last_at=None, count=0))

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        """Enqueue work for the ticks that have come, and wait for the next."""
        now, data = self._clock.now(), snapshot.data
        rule, next_at = Schedule.model_validate(data["rule"]), data["next_at"]
        context = current_step()
        for signal in (*context.signals, *context.take(SET_SIGNAL)):
            new = Schedule.model_validate(signal.data)
            if new != rule:
                rule, next_at = new, new.next_tick(now)
        ticks: list[float] = []
        if next_at is not None and next_at <= now + _EARLY_SECONDS:
            ticks, next_at = rule.due_ticks(next_at, max(now, next_at))
        last_at = ticks[-1] if ticks else data["last_at"]
        return snapshot.next(
            "tick",
            data=_data(rule, next_at, last_at=last_at, count=data["count"] + len(ticks)),
            spawn=[_child(rule, item, tick) for tick in ticks],
            **_pause(next_at, now),
        )


def _pause(next_at: float | None, now: float) -> dict[str, Any]:
    """Until shortly before the tick a signal ends the pause; then a delay is what comes on time."""
    left = float("inf") if next_at is None else max(next_at - now, 0.0)
    if left <= 2 * _SURE_SECONDS:
        return {"delay": left}
    return {
        "wait_for": WaitFor(
            signals=(SET_SIGNAL,), timeout_seconds=min(left - _SURE_SECONDS, _LONGEST_SECONDS)
        )
    }


def _data(rule: Schedule, next_at: float | None, *, last_at: float | None, count: int) -> dict[str, Any]:
    return {"rule": rule.model_dump(mode="json"), "next_at": next_at, "last_at": last_at, "count": count}


def _child(rule: Schedule, item: WorkItem, tick: float) -> Child:
    name = item.work_id.rpartition(":")[2]
    return Child(
        engine=rule.engine,
        payload=rule.payload,
        priority=rule.priority,
        resources=rule.resources,
        labels={
            LABEL_NAME: name,
            LABEL_TICK: datetime.fromtimestamp(tick, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        is_detached=True,
    )
