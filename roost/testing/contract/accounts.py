"""The contract of accounts: what families and namespaces use up, and work that parks for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roost.core.outside import carry_out
from roost.engine import current_step
from roost.errors import InputError
from roost.journal.accounts import DAY_SECONDS, DAYS_KEPT, Account, Balance, Charge, day_of
from roost.journal.events import Committed, Kind
from roost.journal.values import Amounts
from roost.models import Child, Join, Snapshot, State, WaitFor, WorkItem
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness, Contract
from roost.testing.contract.process import Process, Scripted, check_done, counts_to

FAMILY = Account("", "root")
TODAY = Account("", day=20_000)


def charge(position: int, *accounts: Account, work_id: str = "w", **amounts: float) -> Charge:
    return Charge(work_id, position, tuple(sorted(amounts.items())), accounts or (FAMILY,))


def past_midnight(now: float) -> float:
    """How far a clock is to be put ahead that is within an hour of midnight; else the day might end in the
    midst of a test, or so soon that what waits for the next one is woken by a message and no sweep."""
    left = DAY_SECONDS - now % DAY_SECONDS
    return left + 60.0 if left < 3600.0 else 0.0


class AccountsContract(Contract):
    """Each charge counts once, and nobody starts a step on an account that is used up."""

    # --- the port ------------------------------------------------------------

    async def test_an_account_that_nobody_charged_is_empty(self, backend: Backend) -> None:
        assert await backend.accounts.show([FAMILY, TODAY]) == [Balance(FAMILY), Balance(TODAY)]
        assert await backend.accounts.show([]) == []

    async def test_charges_add_up_over_work_items_and_names(self, backend: Backend) -> None:
        await backend.accounts.charge(charge(2, steps=1, usd=0.1))
        await backend.accounts.charge(charge(3, steps=1, usd=0.2))
        [balance] = await backend.accounts.charge(charge(2, work_id="other", tokens=7, usd=1e-9))
        assert balance == Balance(FAMILY, (("steps", 2.0), ("tokens", 7.0), ("usd", 0.300000001)))

    async def test_a_charge_that_is_made_again_counts_once(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Also by another process, and after a later one."""
        other = await harness.reopen()
        for position in (2, 2, 4, 2, 4):
            await backend.accounts.charge(charge(position, FAMILY, TODAY, usd=1))
            [family, day] = await other.accounts.charge(charge(position, FAMILY, TODAY, usd=1))
        assert family.spent == day.spent == (("usd", 2.0),)

    async def test_accounts_of_other_families_and_namespaces_are_others(self, backend: Backend) -> None:
        others = (Account("", "other"), Account("team", "root"), Account("team", day=20_000))
        await backend.accounts.charge(charge(1, FAMILY, TODAY, usd=1))
        assert [one.spent for one in await backend.accounts.show(others)] == [(), (), ()]

    async def test_the_last_days_are_kept_and_a_late_charge_is_nobody_s(self, backend: Backend) -> None:
        days = [Account("", day=20_000 + number) for number in range(DAYS_KEPT + 2)]
        for position, day in enumerate(days):
            [balance] = await backend.accounts.charge(charge(position, day, usd=1))
            assert balance.spent == (("usd", 1.0),)
        [late] = await backend.accounts.charge(charge(99, days[0], usd=5))
        assert late.spent == ()
        kept = await backend.accounts.show(days[-DAYS_KEPT:])
        assert [one.spent for one in kept] == [(("usd", 1.0),)] * DAYS_KEPT

    async def test_the_limits_of_the_highest_order_stand(self, backend: Backend) -> None:
        for order, usd in ((0, 5.0), (7, 9.0), (2, 7.0)):
            await backend.accounts.allow(FAMILY, (("steps", 3.0), ("usd", usd)), order=order)
        await backend.accounts.charge(charge(1, usd=1))
        limits: Amounts = (("steps", 3.0), ("usd", 9.0))
        assert await backend.accounts.show([FAMILY]) == [Balance(FAMILY, (("usd", 1.0),), limits)]

    async def test_an_account_goes_with_the_work_that_it_is_named_after(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """And so does what was charged, should the id come into use anew."""
        process = Process(harness, backend, Scripted(counts_to(1)))
        await process.client.enqueue("demo", work_id="root", family_budget={"usd": 9})
        await process.work()
        await process.client.enqueue("demo", work_id="newest")  # storage may keep the newest
        [balance] = await backend.accounts.show([FAMILY])
        assert dict(balance.spent)["steps"] == 1
        await harness.settle()
        await process.client.purge("root")
        assert await backend.accounts.show([FAMILY]) == [Balance(FAMILY)]
        assert (await backend.accounts.charge(charge(0, work_id="root", usd=1)))[0].spent == (("usd", 1.0),)

    # --- families ------------------------------------------------------------

    async def test_a_family_parks_together_and_goes_on_together(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Children of children, attached or not, spend of one account; a raise wakes them all."""
        process = Process(harness, backend, Scripted(_descends))
        root = await process.client.enqueue(
            "demo", {"depth": 2}, work_id="root", family_budget={"steps": 5, "attempts": 1000}
        )
        await process.work()
        [balance] = await process.client.balances(root)
        assert dict(balance.spent)["steps"] == 5
        tails = [await process.tail(work_id) for work_id in ("root", "root.1-0", "root.1d0")]
        parked = [tail for tail in tails if tail.control.over]
        assert parked
        words = "budget of the family of root used up: steps 5 of 5"
        for tail in parked:
            assert tail.event.kind is Kind.BLOCKED
            assert (tail.control.failures, tail.control.interruptions) == (0, 0)
            row = await backend.index.get(tail.work_id)
            assert row is not None
            assert (row.state, row.reason) == (State.PAUSED, words)
        await harness.settle()
        await process.client.set_family_budget("root.1-0", {"steps": 1000}, "worth it")
        await process.work()
        check_done(await process.client.status(root), version=2)
        entries = await process.entries(root)
        [raised] = [entry for entry in entries if entry.event.kind is Kind.BUDGET_SET]
        assert (raised.actor, raised.event.reason) == ("client", "worth it")  # type: ignore[union-attr]  # it is a BudgetSet
        [balance] = await process.client.balances(root)
        members = ["root", "root.1-0", "root.1d0", "root.1-0.1-0", "root.1-0.1d0"]
        members += ["root.1d0.1-0", "root.1d0.1d0"]
        commits = 0
        for work_id in members:
            tail = await process.tail(work_id)
            assert tail.control.state is State.DONE, work_id
            assert tail.control.account == "root"
            commits += tail.control.version
        assert dict(balance.spent)["steps"] == commits == 10

    async def test_work_without_such_a_budget_makes_no_call_for_it(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(3)))
        work_id = await process.client.enqueue("demo", budget={"steps": 9})
        await process.work()
        kinds = [entry.event.kind for entry in await process.entries(work_id)]
        assert kinds == [Kind.ENQUEUED, Kind.CLAIMED, *[Kind.COMMITTED] * 3]
        assert await process.client.balances(work_id) == []
        with pytest.raises(InputError, match="has no budget"):
            await process.client.set_family_budget(work_id, {"usd": 1}, "why not")

    async def test_what_an_attempt_spends_is_charged_even_if_it_fails(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        def step(snapshot: Snapshot, item: WorkItem) -> Snapshot:
            current_step().spend(usd=0.9)
            if current_step().attempt < 3:
                raise ValueError("paid for nothing")
            return snapshot.finish()

        process = Process(harness, backend, Scripted(step))
        work_id = await process.client.enqueue("demo", family_budget={"usd": 1.8})
        await process.work()
        tail = await process.tail(work_id)
        assert (tail.control.failures, tail.control.version) == (2, 0)
        assert "usd 1.8 of 1.8" in tail.control.over
        await process.client.set_family_budget(work_id, {"usd": 9}, "once more")
        await process.work()
        check_done(await process.client.status(work_id), version=1)

    async def test_a_crash_after_the_commit_leaves_the_charge_to_who_comes_next(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        """Done again it counts once; and the soft mark is in the history."""
        process = Process(harness, backend, Scripted(counts_to(9)))
        await process.client.enqueue("demo", work_id="root", family_budget={"steps": 5})
        await process.work()
        entries = await process.entries("root")
        for entry in entries:
            await carry_out(process.parts, entry)
        [balance] = await process.client.balances("root")
        assert dict(balance.spent)["steps"] == 5
        warnings = [e.control.reason for e in entries if isinstance(e.event, Committed)]
        assert warnings == ["", "", "", "", "budget of the family of root nearly used up: steps 4 of 5"]

    # --- days ----------------------------------------------------------------

    async def test_a_namespace_over_the_budget_of_its_day_waits_for_the_next(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        early = past_midnight(harness.clock.now())
        process = Process(harness, backend, Scripted(counts_to(3)), ahead_seconds=early)
        await process.client.set_daily_budget({"steps": 2}, "a quiet day")
        await process.switches.read()
        work_id = await process.client.enqueue("demo")
        await process.work()
        tail, now = await process.tail(work_id), harness.clock.now() + early
        day = day_of(now)
        assert tail.control.version == 2
        assert tail.control.over.endswith("used up: steps 2 of 2")
        assert tail.control.wake_at == pytest.approx((day + 1) * DAY_SECONDS)
        [balance] = await process.client.balances()
        assert dict(balance.spent)["steps"] == 2
        assert balance.allowed == (("steps", 2.0),)
        tomorrow = Process(
            harness,
            backend,
            Scripted(counts_to(3)),
            "tomorrow",
            ahead_seconds=(day + 1) * DAY_SECONDS - now + early + 1,
        )
        await tomorrow.switches.read()
        await harness.settle()
        await tomorrow.sweeper.sweep()
        await tomorrow.work()
        check_done(await tomorrow.client.status(work_id), version=3)

    async def test_a_raised_day_wakes_who_is_parked_whatever_their_worker_knew(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(3)))
        assert await process.client.set_daily_budget({"steps": 1}, "a quiet day")
        assert not await process.client.set_daily_budget({"steps": 1}, "a quiet day")
        await process.switches.read()
        work_id = await process.client.enqueue("demo")
        await process.work()
        assert (await process.tail(work_id)).control.version == 1
        await harness.settle()
        await process.client.set_daily_budget(
            {"steps": 50}, "not so quiet"
        )  # the worker reads it as it parks
        await process.work()
        check_done(await process.client.status(work_id), version=3)
        await process.client.set_daily_budget({}, "no limit")
        assert (await process.client.balances())[0].allowed == ()

    async def test_settings_give_each_namespace_its_day(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        process = Process(harness, backend, Scripted(counts_to(3)))
        settings = replace(process.parts.settings, daily_budget=(("steps", 1.0),))
        limited = Process(harness, backend, Scripted(counts_to(3)), "limited", settings=settings)
        work_id = await limited.client.enqueue("demo")
        await limited.work()
        assert (await limited.tail(work_id)).control.version == 1


def _descends(snapshot: Snapshot, item: WorkItem) -> Snapshot:
    """Spawns an attached and a detached child at its first step, as long as it is not deep enough."""
    depth = item.payload["depth"]
    if depth == 0 or snapshot.version:
        return snapshot.finish()
    child = Child(engine="demo", payload={"depth": depth - 1})
    return snapshot.next(
        spawn=[child, child.model_copy(update={"is_detached": True})], wait_for=WaitFor(children=Join())
    )
