"""Work without an end: its journal is cut, and what is cut off is never free again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from roost.core import schedules
from roost.engine import EngineRegistry
from roost.engines.schedule import ScheduleEngine
from roost.errors import InputError
from roost.journal import retention
from roost.journal.entries import Body, Encoding, Entry
from roost.journal.events import Cancelled, Claimed, Committed, Event, Released, Signaled
from roost.journal.projection import project
from roost.models import State
from roost.names import SCHEDULE_ENGINE
from roost.rules import SET_SIGNAL, Schedule
from roost.storage.ports import Backend
from roost.testing.contract.harness import AT, BackendHarness, Contract, append_all, first, follow
from roost.testing.contract.process import Process, Scripted, finishes

_LEASE = AT + 30


def _chain(work_id: str, length: int) -> list[Entry]:
    """A journal without an end: claims, each with one commit, and signals between them."""
    entries = [first(work_id, engine=SCHEDULE_ENGINE)]
    while len(entries) < length:
        last = entries[-1]
        if last.control.lease is None:
            entries.append(follow(last, Claimed("worker", _LEASE)))
            continue
        body = Body(Encoding.JSON, b'{"step":%d}' % len(entries))
        event = Committed(last.control.version + 1, "tick", lease_until=_LEASE)
        if last.control.version % 3 == 2:
            event = replace(event, lease_until=None)
        entries.append(follow(last, event, body=body))
    return entries


def _positions(entries: Sequence[Entry]) -> list[int]:
    return [entry.position for entry in entries]


class EndlessContract(Contract):
    """`Journal.trim`, what an append meets after it, and schedules that live by it."""

    async def test_trimming_leaves_the_first_entry_and_the_newest(self, backend: Backend) -> None:
        journal, entries, other = backend.journal, _chain("w", 12), _chain("other", 6)
        await append_all(backend, entries)
        await append_all(backend, other)
        assert await journal.trim("w", 4, limit=2) == 2
        assert _positions(await journal.read("w")) == [0, *range(3, 12)]
        assert [await journal.trim("w", 8) for _ in range(2)] == [5, 0]
        assert await journal.read("w") == [entries[0], *entries[8:]]
        assert await journal.read("w", newest_first=True) == [*reversed(entries[8:]), entries[0]]
        assert _positions(await journal.read("w", after=9, limit=2, newest_first=True)) == [8, 0]
        assert _positions(await journal.read("w", after=2, limit=2)) == [8, 9]
        assert _positions(await journal.read("w", after=8, limit=2)) == [9, 10]
        assert [await journal.get("w", position) for position in (0, 7, 8)] == [entries[0], None, entries[8]]
        assert await journal.tail("w") == entries[-1]
        assert await journal.read("other") == other
        await append_all(backend, [follow(entries[-1], Signaled("s", "go"))])
        assert [await journal.trim(*what) for what in (("w", 1), ("w", 0), ("nobody", 9))] == [0, 0, 0]

    @pytest.mark.parametrize("position", [1, 2, 3, 5])
    async def test_nobody_appends_where_entries_were_trimmed(self, backend: Backend, position: int) -> None:
        """A worker or a client that slept for long: to it the position after its last entry looks free."""
        entries = _chain("w", 12)
        await append_all(backend, entries)
        assert await backend.journal.trim("w", 8) == 7
        before = entries[position - 1]
        late: Event = Signaled("late", "go") if before.control.lease is None else Released("late")
        for with_row in (False, True):
            stands = await backend.journal.append(follow(before, late, by="late"), with_row=with_row)
            assert stands == entries[-1]
        if before.control.lease is not None:  # with others, as a backend may write many at once
            other = _chain("other", 3)
            await append_all(backend, other[:2])
            commit = Committed(before.control.version + 1, "late", lease_until=_LEASE)
            step = follow(before, commit, by="late", body=Body(Encoding.JSON, b"{}"))
            standing = await asyncio.gather(*(backend.journal.append(one) for one in (step, other[2])))
            assert standing == [entries[-1], other[2]]
        assert await backend.journal.read("w") == [entries[0], *entries[8:]]
        newest = follow(entries[-1], Signaled("s", "go"))
        assert await backend.journal.append(newest) == newest

    async def test_a_trimmed_journal_can_be_copied(self, backend: Backend) -> None:
        """As a move does it: its row first, never due, then what there is of it, and that again."""
        entries = _chain("w", 12)
        kept = [entries[0], *entries[8:]]
        await backend.index.put(replace(project(entries[-1]), due_at=None))
        await append_all(backend, kept)
        await append_all(backend, kept)
        await backend.index.put(project(entries[-1]))
        assert await backend.journal.read("w") == kept
        assert await backend.journal.append(follow(entries[1], Released("late"), by="late")) == entries[-1]

    async def test_a_trimmed_journal_ends_whole(self, backend: Backend) -> None:
        entries = _chain("w", 12)
        end = follow(entries[-1], Cancelled("enough"))
        await append_all(backend, [*entries, end])
        await append_all(backend, [first("newer", at=AT + 99)])
        await backend.index.put(project(end))
        await backend.journal.trim("w", 8)
        assert await backend.journal.purge("w", end.position)
        assert await backend.journal.read("w") == []
        again = first("w", by="again")
        await append_all(backend, [again])
        assert await backend.journal.read("w") == [again]

    async def test_a_schedule_keeps_its_newest_history_and_goes_on(
        self, backend: Backend, harness: BackendHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its rule is set again and again here, which costs entries as ticks do."""
        monkeypatch.setattr(retention, "TRIM_EVERY", 3)
        monkeypatch.setattr(retention, "ENTRIES_KEPT", 5)
        process = Process(harness, backend, Scripted(finishes))
        process.engines = EngineRegistry([Scripted(finishes), ScheduleEngine(process.parts.clock)])
        client, work_id = process.client, "schedule:s"
        rules = [Schedule(cron=f"0 {hour} 29 2 *", engine="demo") for hour in range(10)]
        await schedules.keep(client, {"s": rules[0]})
        await process.work()
        for number, rule in enumerate(rules[1:]):
            fields = rule.model_dump(mode="json")
            await client.signal(work_id, SET_SIGNAL, fields, signal_id=f"rule-{number}")
            await process.work()
        entries = await process.entries(work_id)
        assert entries[0].position == 0
        assert len(entries) <= 16 < entries[-1].position
        assert _positions(entries[1:]) == list(range(entries[1].position, entries[-1].position + 1))
        [view] = await schedules.list_schedules(client)
        assert (view.rule, view.is_asleep) == (rules[-1], True)
        position = (await process.tail(work_id)).position
        await client.signal(work_id, SET_SIGNAL, fields, signal_id=f"rule-{number}")
        assert (await process.tail(work_id)).position == position, "a signal that is kept is known"
        await schedules.pause(client, "s", "holidays")
        await schedules.resume(client, "s", "over")
        await schedules.remove(client, "s", "enough")
        await process.work()
        with pytest.raises(InputError, match="can't go back"):
            await client.retry(work_id, "back", version=9)
        await schedules.resume(client, "s", "again")
        await process.work()
        assert await process.state(work_id) in (State.WAITING, State.SCHEDULED)
