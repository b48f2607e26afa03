"""27: who may run beside whom in a worker, told from nothing but what was written and what ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from roost.journal.decide import most_together
from roost.journal.events import Claimed, Committed

from .engines import SimEngine
from .invariants import Appended, Began, Ended, Record, Violation


@dataclass(slots=True)
class _Worker:
    """The steps that run in a worker: by attempt, how many it may run beside each."""

    running: dict[int, int | None] = field(default_factory=dict)

    def is_too_full(self) -> bool:
        return any(most is not None and len(self.running) > most for most in self.running.values())


def check_company(history: Sequence[Record], lanes: int) -> list[Violation]:
    """No step begins beside more others, in one worker, than each of them may have.

    So the last tries of what is dead-lettered as a crash loop were alone.

    Args:
        lanes: how many each worker runs at once.
    """
    found: list[Violation] = []
    leases: dict[tuple[str, int], tuple[str, int]] = {}  # by work and token: its worker, and interruptions
    workers: dict[str, _Worker] = {}
    ran_in: dict[int, _Worker] = {}
    for record in history:
        match record:
            case Appended(entry):
                lease, event = entry.control.lease, entry.event
                if lease is not None and isinstance(event, Claimed | Committed):
                    key = (entry.work_id, lease.token)
                    leases[key] = (lease.worker_id, entry.control.interruptions)
            case Began(attempt, work_id, token):
                name, interruptions = leases[work_id, token]
                worker = ran_in[attempt] = workers.setdefault(name, _Worker())
                worker.running[attempt] = most_together(
                    interruptions, lanes, SimEngine.retry.max_interruptions
                )
                if worker.is_too_full():
                    text = f"runs in {name} beside {len(worker.running) - 1} others"
                    found.append(Violation(27, f"{work_id} under {token}", text))
            case Ended(attempt) if attempt in ran_in:
                ran_in.pop(attempt).running.pop(attempt, None)
    return found
