"""The contract of `ports.WorkIndex`."""

from __future__ import annotations

import asyncio
from itertools import product

import pytest
from msgspec.structs import replace

from roost.errors import InputError
from roost.journal.entries import IndexRow
from roost.journal.projection import LaneCount
from roost.models import Lane, State
from roost.names import Order
from roost.storage.ports import Backend, Renewal, WorkIndex
from roost.storage.query import SORTS, IndexQuery
from roost.testing.contract.harness import AT, BackendHarness, Contract

_RIVALS = 10


def row(work_id: str, *, number: int = 0, **fields: object) -> IndexRow:
    """A row of queued work that was created `number` seconds after `AT`."""
    plain = IndexRow(
        work_id=work_id,
        engine="demo",
        state=State.QUEUED,
        lane=Lane.NORMAL,
        position=0,
        version=0,
        step="",
        created_at=AT + number,
        updated_at=AT + number,
        since=AT + number,
    )
    return replace(plain, **fields)


def running(work_id: str, *, token: int = 1, **fields: object) -> IndexRow:
    """A row of running work, with a lease of 30 seconds."""
    given = {
        "state": State.RUNNING,
        "position": token,
        "token": token,
        "worker_id": "worker",
        "lease_until": AT + 30,
        "due_at": AT + 31,
        **fields,
    }
    return row(work_id, **given)  # type: ignore[arg-type]  # fields of IndexRow


async def put(index: WorkIndex, given: IndexRow) -> bool:
    """Write a row of work whose first row was written before."""
    if given.position:
        await index.put(replace(given, position=0))
    return await index.put(given)


async def _fill(backend: Backend, harness: BackendHarness, rows: list[IndexRow]) -> None:
    for given in rows:
        assert await put(backend.index, given)
    await harness.settle()


async def _due_ids(index: WorkIndex, now: float, limit: int = 100) -> list[str]:
    return [found.work_id for found in await index.due(now, limit=limit)]


async def _all_pages(index: WorkIndex, query: IndexQuery, limit: int) -> list[tuple[float, str]]:
    """What rows are sorted by, and their ids, page after page."""
    seen: list[tuple[float, str]] = []
    cursor: str | None = None
    while True:
        page = await index.list(query, cursor=cursor, limit=limit)
        seen += [(SORTS[query.order].value(found) or 0.0, found.work_id) for found in page.rows]
        cursor = page.cursor
        if cursor is None:
            return seen


class IndexContract(Contract):
    """One row per work item; a newer one is never replaced by an older one."""

    # --- put, get ------------------------------------------------------------

    async def test_a_row_reads_back_as_it_was(self, backend: Backend, harness: BackendHarness) -> None:
        full = IndexRow(
            "w",
            "engine",
            State.RUNNING,
            Lane.HIGH,
            7,
            3,
            "step \N{SNOWMAN}",
            AT + 0.125,
            AT + 1.5,
            AT + 1.25,
            AT + 31.0625,
            5,
            "worker",
            AT + 30.5,
            AT + 40.5,
            AT + 50.5,
            2,
            1,
            "reason",
            (0.5, "half \N{SNOWMAN}"),
        )
        assert await put(backend.index, full)
        assert await put(backend.index, row("plain"))
        other = await harness.reopen()
        for index in (backend.index, other.index):
            assert await index.get("w") == full
            assert await index.get("plain") == row("plain")
            assert await index.get("unknown") is None

    async def test_a_newer_row_replaces_an_older_one(self, backend: Backend) -> None:
        await put(backend.index, running("w", token=1, progress=(0.5, "half")))
        newer = row("w", position=2, state=State.DONE, version=1)
        assert await put(backend.index, newer)
        assert await backend.index.get("w") == newer

    async def test_an_older_row_never_replaces_a_newer_one(self, backend: Backend) -> None:
        newer = row("w", position=5, state=State.DONE)
        assert await put(backend.index, newer)
        for position in (0, 4):
            assert not await put(backend.index, row("w", position=position, due_at=AT))
        assert await backend.index.get("w") == newer

    async def test_a_row_of_the_same_position_replaces_the_one_that_stands(self, backend: Backend) -> None:
        for due_at in (AT + 9, None, AT + 3, AT + 3):
            assert await put(backend.index, row("w", position=4, due_at=due_at))
            assert await backend.index.get("w") == row("w", position=4, due_at=due_at)

    async def test_of_rows_put_at_once_the_newest_stands(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        other = await harness.reopen()
        order = [3, 7, 1, 9, 0, 5, 8, 2, 6, 4]
        await asyncio.gather(
            *(
                put((backend, other)[n % 2].index, row("w", position=position))
                for n, position in enumerate(order)
            )
        )
        assert await other.index.get("w") == row("w", position=9)

    # --- renew ---------------------------------------------------------------

    async def test_renew_moves_lease_and_due_time_on(self, backend: Backend) -> None:
        await put(backend.index, running("w"))
        assert await backend.index.renew([Renewal("w", 1, AT + 60, AT + 61)]) == [True]
        assert await backend.index.get("w") == running("w", lease_until=AT + 60, due_at=AT + 61)

    async def test_renew_never_moves_them_back(self, backend: Backend) -> None:
        await put(backend.index, running("w"))
        assert await backend.index.renew([Renewal("w", 1, AT + 10, AT + 11)]) == [True]
        assert await backend.index.get("w") == running("w")

    async def test_renew_is_refused_under_another_token(self, backend: Backend) -> None:
        ended = row("ended", position=3)
        for given in (running("w", token=4), ended):
            await put(backend.index, given)
        renewals = [
            Renewal(name, token, AT + 99, AT + 99) for name, token in (("w", 1), ("w", 7), ("ended", 1))
        ]
        assert await backend.index.renew(renewals) == [False, False, False]
        assert await backend.index.get("w") == running("w", token=4)
        assert await backend.index.get("ended") == ended

    async def test_each_renewal_is_by_itself_and_answered_in_order(self, backend: Backend) -> None:
        for name in "abc":
            await put(backend.index, running(name))
        renewals = [
            Renewal(name, token, AT + 60, AT + 61) for name, token in zip("axbc", (1, 1, 2, 1), strict=True)
        ]
        assert await backend.index.renew(renewals) == [True, False, False, True]
        assert await backend.index.renew([]) == []
        assert await backend.index.get("x") is None
        leases = [found.lease_until for name in "abc" if (found := await backend.index.get(name))]
        assert leases == [AT + 60, AT + 30, AT + 60]

    async def test_progress_shows_and_stays_until_there_is_new(self, backend: Backend) -> None:
        await put(backend.index, running("w"))
        for given, shown in (((0.25, "a"), (0.25, "a")), (None, (0.25, "a")), ((1.0, ""), (1.0, ""))):
            await backend.index.renew([Renewal("w", 1, AT + 60, AT + 61, given)])
            found = await backend.index.get("w")
            assert found is not None
            assert found.progress == shown

    # --- due -----------------------------------------------------------------

    async def test_due_gives_what_is_due_the_longest_first(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        due = {"c": 3.0, "a": 1.0, "later": 6.0, "b": 2.0, "now": 5.0, "never": None}
        rows = [row(name, due_at=None if at is None else AT + at) for name, at in due.items()]
        await _fill(backend, harness, rows)
        found = await backend.index.due(AT + 5)
        assert [found.work_id for found in found] == ["a", "b", "c", "now"]
        assert list(found) == sorted(
            (given for given in rows if given.due_at is not None and given.due_at <= AT + 5),
            key=lambda given: given.due_at or 0.0,
        )
        assert await _due_ids(backend.index, AT) == []

    async def test_due_pages_past_rows_that_stay_due(self, backend: Backend, harness: BackendHarness) -> None:
        """A page full of rows that can't be helped never hides the next page."""
        rows = [row(f"w{number:02}", due_at=AT + number // 4) for number in range(23)]  # four at each instant
        await _fill(backend, harness, rows)
        seen: list[IndexRow] = []
        while page := await backend.index.due(AT + 100, limit=5, after=seen[-1] if seen else None):
            assert len(page) <= 5
            seen += page
        assert len(seen) == 23
        assert set(seen) == set(rows)
        assert [found.due_at for found in seen] == sorted(found.due_at or 0.0 for found in seen)

    async def test_due_pages_on_when_the_rows_passed_were_taken(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        rows = [row(f"w{number}", due_at=AT + number) for number in range(9)]
        await _fill(backend, harness, rows)
        seen: list[str] = []
        last: IndexRow | None = None
        while page := await backend.index.due(AT + 50, limit=2, after=last):
            for found in page:
                assert await backend.index.take_due(found, AT + 100)
            seen += [found.work_id for found in page]
            last = page[-1]
            await harness.settle()
        assert seen == [given.work_id for given in rows]
        assert await _due_ids(backend.index, AT + 50) == []
        assert len(await backend.index.due(AT + 100)) == 9

    # --- take_due ------------------------------------------------------------

    async def test_take_due_moves_due_at_and_nothing_else(self, backend: Backend) -> None:
        given = running("w", progress=(0.5, "half"))
        await put(backend.index, given)
        for before, after in ((given.due_at, AT + 99), (AT + 99, None), (None, AT)):
            assert await backend.index.take_due(replace(given, due_at=before), after)
            assert await backend.index.get("w") == replace(given, due_at=after)

    async def test_take_due_is_refused_when_due_at_or_position_moved(self, backend: Backend) -> None:
        given = row("w", position=2, due_at=AT)
        await put(backend.index, given)
        for stale in (
            replace(given, due_at=AT + 1),
            replace(given, due_at=None),
            replace(given, position=1),
            replace(given, position=3),
            replace(given, work_id="unknown"),
        ):
            assert not await backend.index.take_due(stale, AT + 50)
        assert await backend.index.get("w") == given
        assert await backend.index.get("unknown") is None

    async def test_of_many_that_take_one_due_row_one_gets_it(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        other = await harness.reopen()
        given = row("w", due_at=AT)
        await put(backend.index, given)
        taken = await asyncio.gather(
            *((backend, other)[n % 2].index.take_due(given, AT + 50 + n) for n in range(_RIVALS))
        )
        assert sum(taken) == 1
        assert await backend.index.get("w") == replace(given, due_at=AT + 50 + taken.index(True))

    # --- list, counts --------------------------------------------------------

    async def test_list_gives_the_newest_work_first(self, backend: Backend, harness: BackendHarness) -> None:
        rows = [row(f"w{number}", number=number) for number in range(5)]
        await _fill(backend, harness, rows)
        await put(backend.index, replace(rows[1], position=1, updated_at=AT + 99))  # still the second oldest
        await harness.settle()
        page = await backend.index.list(IndexQuery())
        assert [found.work_id for found in page.rows] == ["w4", "w3", "w2", "w1", "w0"]
        assert page.cursor is None

    async def test_list_gives_the_oldest_work_first_where_asked(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Page by page, with none left out and none twice; a filter changes nothing of that."""
        states = [State.DONE, State.QUEUED, State.FAILED]
        await _fill(backend, harness, [row(f"w{n}", number=n, state=states[n % 3]) for n in range(9)])
        for state, expected in ((None, range(9)), (State.QUEUED, (1, 4, 7))):
            seen: list[str] = []
            cursor: str | None = None
            while True:
                query = IndexQuery(state=state, order=Order.OLDEST)
                page = await backend.index.list(query, cursor=cursor, limit=2)
                seen += [found.work_id for found in page.rows]
                cursor = page.cursor
                if cursor is None:
                    break
            assert seen == [f"w{n}" for n in expected]

    async def test_list_serves_the_order_in_which_work_came_both_ways(self, backend: Backend) -> None:
        assert {Order.NEWEST, Order.OLDEST} <= backend.index.orders

    async def test_list_sorts_all_that_matches_in_each_order_that_it_serves(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Over all pages, of whatever size; with rows that are alike, and rows that have no such field."""
        rows = [
            row(
                f"w{n:02}",
                number=n,
                state=State.DONE if n % 4 == 0 else State.QUEUED,
                updated_at=AT + n * 7 % 20 + 0.125,
                since=AT + n * 11 % 20,
                due_at=None if n % 5 == 0 else AT + n * 13 % 20 + 0.25,
                failures=n % 3,
            )
            for n in range(20)
        ]
        await _fill(backend, harness, [*rows, replace(rows[3], work_id="team/w03")])
        for order in backend.index.orders & set(SORTS):
            for state in (None, State.DONE):
                matching = [
                    (SORTS[order].rank(value), given.work_id)
                    for given in rows
                    if state in (None, given.state) and (value := SORTS[order].value(given)) is not None
                ]
                alike = IndexQuery(state=state, order=order)
                whole = await _all_pages(backend.index, alike, limit=50)
                assert sorted((SORTS[order].rank(value), work_id) for value, work_id in whole) == sorted(
                    matching
                )
                ranks = [SORTS[order].rank(value) for value, _ in whole]
                assert ranks == sorted(ranks)
                for limit in (1, 3):
                    assert await _all_pages(backend.index, alike, limit=limit) == whole

    async def test_a_sorted_page_goes_on_where_the_one_before_ended_whatever_moves(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Each row that stands still is seen once, also where the last one of a page moves or ends."""
        rows = [row(f"w{n}", number=n, updated_at=AT + n, since=AT - n, failures=n) for n in range(9)]
        rows = [replace(given, due_at=AT + 9 - n) for n, given in enumerate(rows)]
        await _fill(backend, harness, rows)
        for order in backend.index.orders & set(SORTS):
            page = await backend.index.list(IndexQuery(order=order), limit=4)
            assert [given.work_id for given in page.rows] == ["w8", "w7", "w6", "w5"]
            standing = await backend.index.get("w5")
            assert standing is not None
            first = replace(
                standing,
                position=standing.position + 1,
                updated_at=AT + 50,
                since=AT - 50,
                failures=50,
                due_at=AT,
            )
            await _fill(backend, harness, [first])
            rest = await backend.index.list(IndexQuery(order=order), cursor=page.cursor, limit=50)
            assert [given.work_id for given in rest.rows] == ["w4", "w3", "w2", "w1", "w0"]
            await _fill(backend, harness, [replace(rows[5], position=first.position + 1)])

    async def test_a_cursor_of_another_order_is_refused(self, backend: Backend) -> None:
        for order in backend.index.orders & set(SORTS):
            for cursor in ("x", "", "12", "nan!1", "inf!1", "1.5!x", "!1", "1.5!" + "9" * 99):
                with pytest.raises(InputError):
                    await backend.index.list(IndexQuery(order=order), cursor=cursor)

    async def test_list_filters_by_each_field_and_by_all(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        rows = [
            row("a.1", number=1),
            row("a.2", number=2, state=State.DONE),
            row("b.3", number=3, engine="other"),
            row("a.4", number=4, engine="other", state=State.DONE),
            row("a_5", number=5, state=State.WAITING),
            row("A.6", number=6, state=State.WAITING),
        ]
        await _fill(backend, harness, rows)
        for query, expected in (
            (IndexQuery(), "A.6 a_5 a.4 b.3 a.2 a.1"),
            (IndexQuery(state=State.DONE), "a.4 a.2"),
            (IndexQuery(state=State.FAILED), ""),
            (IndexQuery(engine="other"), "a.4 b.3"),
            (IndexQuery(engine="oth"), ""),
            (IndexQuery(id_prefix="a."), "a.4 a.2 a.1"),
            (IndexQuery(id_prefix="a"), "a_5 a.4 a.2 a.1"),
            (IndexQuery(id_prefix="a_"), "a_5"),
            (IndexQuery(id_prefix=""), "A.6 a_5 a.4 b.3 a.2 a.1"),
            (IndexQuery(created_after=AT + 4), "A.6 a_5"),
            (IndexQuery(State.DONE, "other", "a.", AT + 3), "a.4"),
            (IndexQuery(State.DONE, "other", "a.", AT + 4), ""),
        ):
            page = await backend.index.list(query)
            assert [found.work_id for found in page.rows] == expected.split(), query
            assert page.cursor is None

    async def test_list_pages_by_cursor(self, backend: Backend, harness: BackendHarness) -> None:
        rows = [
            row(f"w{number:02}", number=number, state=State.DONE if number % 3 else State.QUEUED)
            for number in range(20)
        ]
        await _fill(backend, harness, rows)
        for query in (IndexQuery(), IndexQuery(state=State.DONE), IndexQuery(state=State.QUEUED)):
            expected = [given for given in rows[::-1] if query.state in (None, given.state)]
            for limit in (1, 3, 7, len(expected), 50):
                seen: list[IndexRow] = []
                cursor: str | None = None
                for _ in range(len(expected) + 1):
                    page = await backend.index.list(query, cursor=cursor, limit=limit)
                    assert len(page.rows) <= limit
                    seen, cursor = [*seen, *page.rows], page.cursor
                    if cursor is None:
                        break
                assert seen == expected
                assert cursor is None

    async def test_a_cursor_that_no_page_gave_is_refused(self, backend: Backend) -> None:
        await put(backend.index, row("w"))
        for cursor in ("x", "-1", "9" * 99, "\u0663", "e30"):
            with pytest.raises(InputError):
                await backend.index.list(IndexQuery(), cursor=cursor)

    async def test_namespaces_are_listed_and_counted_apart(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        ids = ["a.1", "team/a.1", "team-b/a.1", "a.2", "team/a.2", "team/b.1"]
        await _fill(backend, harness, [row(name, number=number) for number, name in enumerate(ids)])
        for query, expected in (
            (IndexQuery(), "a.2 a.1"),
            (IndexQuery(namespace="team"), "team/b.1 team/a.2 team/a.1"),
            (IndexQuery(namespace="team", id_prefix="team/a."), "team/a.2 team/a.1"),
            (IndexQuery(namespace="team", id_prefix="a."), ""),
            (IndexQuery(namespace="team-b"), "team-b/a.1"),
            (IndexQuery(namespace="tea"), ""),
        ):
            found = (await backend.index.list(query)).rows
            assert [given.work_id for given in found] == expected.split()
        for namespace, count in (("", 2), ("team", 3), ("team-b", 1), ("tea", 0)):
            assert sum((await backend.index.counts(namespace)).values()) == count

    async def test_a_cursor_stays_good_while_work_comes_and_goes_on(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        rows = [row(f"w{number:02}", number=number) for number in range(9)]
        await _fill(backend, harness, rows)
        page = await backend.index.list(IndexQuery(), limit=4)
        await put(backend.index, row("w99", number=99))
        moved = [replace(rows[number], position=1, state=State.DONE) for number in (8, 5, 2)]
        await _fill(backend, harness, moved)
        other = await harness.reopen()
        rest = await other.index.list(IndexQuery(), cursor=page.cursor, limit=50)
        assert [found.work_id for found in rest.rows] == ["w04", "w03", "w02", "w01", "w00"]
        assert rest.cursor is None

    async def test_counts_say_how_many_are_in_each_state(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        assert not any((await backend.index.counts()).values())
        states = [State.QUEUED, State.RUNNING, State.RUNNING, State.DONE, State.DONE, State.DONE]
        rows = [row(f"w{number}", number=number, state=state) for number, state in enumerate(states)]
        await _fill(backend, harness, rows)
        await _fill(backend, harness, [replace(rows[0], position=1, state=State.RUNNING)])
        counts = {state: count for state, count in (await backend.index.counts()).items() if count}
        assert counts == {State.RUNNING: 3, State.DONE: 3}

    async def test_lanes_are_counted_with_the_age_of_their_oldest(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Of one namespace, and in whatever order the rows were written."""
        assert not await backend.index.lane_counts()
        both = product((State.QUEUED, State.DONE), (Lane.HIGH, Lane.LOW, Lane.HIGH))
        rows = [row(f"w{n}", number=n, state=state, lane=lane) for n, (state, lane) in enumerate(both)]
        other = row("team/w", number=9, lane=Lane.LOW)
        await _fill(backend, harness, [*reversed(rows), other])
        assert set(await backend.index.lane_counts()) == {
            LaneCount(State.QUEUED, Lane.HIGH, 2, rows[0].created_at),
            LaneCount(State.QUEUED, Lane.LOW, 1, rows[1].created_at),
            LaneCount(State.DONE, Lane.HIGH, 2, rows[3].created_at),
            LaneCount(State.DONE, Lane.LOW, 1, rows[4].created_at),
        }
        of_team = LaneCount(other.state, Lane.LOW, 1, other.created_at)
        assert [*await backend.index.lane_counts("team")] == [of_team]
