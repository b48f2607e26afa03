"""The contract of `ports.ResourceClaims`."""

from __future__ import annotations

import asyncio

from roost.journal.claims import OVERTAKEN_MAX, Acquired, Ask, Owner, Refused, ResourceView, Waiter, Want
from roost.storage.ports import Backend, ResourceClaims
from roost.testing.contract.harness import AT, BackendHarness, Contract

A, B, C, D = Owner("a", 1), Owner("b", 1), Owner("c", 1), Owner("d", 1)
_RIVALS = 10


async def take(
    claims: ResourceClaims,
    owner: Owner,
    *resources: str | Want,
    at: float = AT,
    overtake_before: float = 0.0,
    use: int = 0,
) -> Acquired | Refused:
    """Ask for resources; those that are named only are asked for exclusively."""
    wants = tuple(Want(wanted) if isinstance(wanted, str) else wanted for wanted in resources)
    return await claims.acquire(Ask(owner, wants, use), now=at, overtake_before=overtake_before)


async def release(claims: ResourceClaims, owner: Owner, *, at: float = AT) -> list[str]:
    """Release; the ids of those to wake, none of them before now."""
    called = await claims.release(owner, now=at)
    assert all(call.at == at for call in called)
    return [call.work_id for call in called]


async def leave(claims: ResourceClaims, work_id: str, *, at: float = AT) -> list[str]:
    """Leave, as work that ended after all it did before; the ids of those to wake."""
    return [call.work_id for call in await claims.leave(Owner(work_id, 999), now=at)]


async def views(claims: ResourceClaims) -> dict[str, tuple[list[Owner], list[str]]]:
    """Owners and the ids of waiters of each resource."""
    shown = await claims.show()
    return {view.resource: (list(view.owners), [waiter.work_id for waiter in view.waiters]) for view in shown}


class ClaimsContract(Contract):
    """All or none; first come, first served; a newer fencing token wins."""

    # --- acquire -------------------------------------------------------------

    async def test_free_resources_are_acquired(self, backend: Backend, harness: BackendHarness) -> None:
        assert await take(backend.claims, A, "r1", "r2") == Acquired()
        other = await harness.reopen()
        assert await views(other.claims) == {"r1": ([A], []), "r2": ([A], [])}

    async def test_all_or_none_are_taken(self, backend: Backend) -> None:
        """Who is refused holds none, and is in line for each that it asked for."""
        await take(backend.claims, A, "r2")
        assert await take(backend.claims, B, "r1", "r2", "r3") == Refused([A], [])
        assert await views(backend.claims) == {"r1": ([], ["b"]), "r2": ([A], ["b"]), "r3": ([], ["b"])}

    async def test_namespaces_have_resources_of_their_own(self, backend: Backend) -> None:
        ours, theirs = Owner("team/a", 1), Owner("tea/a", 2)
        for owner in (A, ours, theirs):
            assert await take(backend.claims, owner, "r", "team/r") == Acquired()
        for namespace, owner in (("", A), ("team", ours), ("tea", theirs)):
            shown = await backend.claims.show(namespace=namespace)
            assert shown == [ResourceView("r", [owner], []), ResourceView("team/r", [owner], [])]
            assert await backend.claims.show(namespace=namespace, resource="r") == shown[:1]
        assert await take(backend.claims, Owner("team/b", 3), "r") == Refused([ours], [])
        assert await release(backend.claims, ours, at=AT) == ["team/b"]
        assert await backend.claims.show(limit=1) == [ResourceView("r", [A], [])]

    async def test_every_other_holder_is_named(self, backend: Backend) -> None:
        await take(backend.claims, A, "r1")
        await take(backend.claims, B, "r3")
        answer = await take(backend.claims, C, "r1", "r2", "r3")
        assert isinstance(answer, Refused)
        assert set(answer.owners) == {A, B}

    async def test_acquire_again_gives_acquired_again(self, backend: Backend) -> None:
        for _ in range(2):
            assert await take(backend.claims, A, "r1", "r2") == Acquired()
        assert await views(backend.claims) == {"r1": ([A], []), "r2": ([A], [])}

    async def test_who_is_refused_again_keeps_its_place_in_line(self, backend: Backend) -> None:
        await take(backend.claims, A, "r")
        await take(backend.claims, B, "r", at=AT + 1)
        await take(backend.claims, C, "r", at=AT + 2)
        await take(backend.claims, B, "r", at=AT + 3)
        [view] = await backend.claims.show()
        assert list(view.waiters) == [Waiter("b", AT + 1), Waiter("c", AT + 2)]

    async def test_a_newer_token_of_the_same_work_replaces_the_claim(self, backend: Backend) -> None:
        await take(backend.claims, A, "r1", "r2")
        newer = Owner("a", 9)
        assert await take(backend.claims, newer, "r1", "r2") == Acquired()
        assert await views(backend.claims) == {"r1": ([newer], []), "r2": ([newer], [])}

    async def test_an_older_token_never_replaces_a_newer_one(self, backend: Backend) -> None:
        """A zombie that was paused between claiming and acquiring does not take it back."""
        newer = Owner("a", 9)
        await take(backend.claims, newer, "r1")
        assert await take(backend.claims, A, "r1", "r2") == Refused([newer], [])
        shown = await views(backend.claims)
        assert shown["r1"][0] == [newer]
        assert shown["r2"][0] == []

    async def test_of_many_that_acquire_at_once_one_does(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        other = await harness.reopen()
        owners = [Owner(f"w{number}", 1) for number in range(_RIVALS)]
        resources = [("r1", "r2"), ("r2", "r1"), ("r2", "r3"), ("r3", "r2", "r1")]
        answers = await asyncio.gather(
            *(
                take((backend, other)[n % 2].claims, owner, *resources[n % len(resources)])
                for n, owner in enumerate(owners)
            )
        )
        winners = [owner for owner, answer in zip(owners, answers, strict=True) if answer == Acquired()]
        assert len(winners) == 1
        held = {owner for owners, _ in (await views(backend.claims)).values() for owner in owners}
        assert held == set(winners)

    async def test_names_do_not_collide(self, backend: Backend) -> None:
        names = ["r", "r ", "R", "r/1", "r#1", "r:1", "r\N{SNOWMAN}", "r|a", "é" * 512, "x" * 1024]
        for number, name in enumerate(names):
            assert await take(backend.claims, Owner(f"w{number}", 1), name) == Acquired()
        assert len(await backend.claims.show()) == len(names)

    async def test_as_many_resources_as_a_work_item_may_have(self, backend: Backend) -> None:
        names = [f"r{number:02}" for number in range(32)]
        assert await take(backend.claims, A, *names) == Acquired()
        assert isinstance(await take(backend.claims, B, *names), Refused)
        assert await release(backend.claims, A, at=AT) == ["b"]
        assert await take(backend.claims, B, *names) == Acquired()

    # --- the line ------------------------------------------------------------

    async def test_a_free_resource_goes_to_the_first_in_line_only(self, backend: Backend) -> None:
        await take(backend.claims, A, "r")
        await take(backend.claims, B, "r")
        await take(backend.claims, C, "r")
        await release(backend.claims, A, at=AT + 1)
        assert await take(backend.claims, C, "r") == Refused([], ["b"])
        assert await take(backend.claims, Owner("new", 1), "r") == Refused([], ["b", "c"])
        assert await take(backend.claims, B, "r") == Acquired()
        assert await views(backend.claims) == {"r": ([B], ["c", "new"])}

    async def test_a_line_is_served_in_the_order_of_arrival(self, backend: Backend) -> None:
        await take(backend.claims, A, "r")
        names = ["e", "b", "d", "c"]
        for name in names:
            await take(backend.claims, Owner(name, 1), "r")
        holder, served = A, []
        for _ in names:
            [called] = await release(backend.claims, holder, at=AT)
            holder = Owner(called, 1)
            assert await take(backend.claims, holder, "r") == Acquired()
            served.append(called)
        assert served == names

    async def test_a_waiter_that_was_called_and_did_not_come_may_be_overtaken(self, backend: Backend) -> None:
        await take(backend.claims, A, "r")
        await take(backend.claims, B, "r")
        await release(backend.claims, A, at=AT + 10)
        early = await take(backend.claims, C, "r", at=AT + 20, overtake_before=AT + 10)
        assert early == Refused([], ["b"])  # called at, not before
        assert await take(backend.claims, C, "r", at=AT + 20, overtake_before=AT + 10.5) == Acquired()
        assert await views(backend.claims) == {"r": ([C], ["b"])}

    async def test_overtaking_one_who_is_late_takes_no_room_from_one_who_was_called_after_it(
        self, backend: Backend
    ) -> None:
        """B is late and C is on its way; with room for two, D may not take what B may come back for."""
        pair = Want("r", 2)
        for owner in (A, D):
            assert await take(backend.claims, owner, pair) == Acquired()
        for owner in (B, C):
            assert await take(backend.claims, owner, pair) == Refused([A, D], [])
        assert await release(backend.claims, A, at=AT + 1) == ["b"]
        assert await release(backend.claims, D, at=AT + 20) == ["c"]
        late = await take(backend.claims, D, pair, at=AT + 30, overtake_before=AT + 10)
        assert late == Refused([], ["c"])
        assert await take(backend.claims, C, pair, at=AT + 30, overtake_before=AT + 10) == Acquired()

    async def test_a_waiter_that_was_never_called_is_not_overtaken(self, backend: Backend) -> None:
        await take(backend.claims, A, "r2")
        await take(backend.claims, B, "r1", "r2")  # in line for r1, which is free
        assert await take(backend.claims, C, "r1", at=AT + 999, overtake_before=AT + 999) == Refused(
            [], ["b"]
        )

    async def test_a_waiter_that_came_and_was_refused_elsewhere_is_not_overtaken(
        self, backend: Backend
    ) -> None:
        """Its call is used up; what is free waits for it, or it would never have both."""
        await take(backend.claims, A, "r1")
        await take(backend.claims, C, "r2")
        await take(backend.claims, B, "r1", "r2")
        assert await release(backend.claims, A, at=AT + 1) == ["b"]
        assert await backend.claims.is_called("b", now=AT + 1)
        assert await take(backend.claims, B, "r1", "r2", at=AT + 2) == Refused([C], [])
        assert not await backend.claims.is_called("b", now=AT + 999)
        new = Owner("new", 1)
        assert await take(backend.claims, new, "r1", at=AT + 99, overtake_before=AT + 99) == Refused(
            [], ["b"]
        )
        assert await release(backend.claims, C, at=AT + 100) == ["b"]
        assert await take(backend.claims, B, "r1", "r2", at=AT + 101) == Acquired()

    async def test_a_waiter_that_never_comes_is_overtaken_three_times_and_then_stands_in_nobodys_way(
        self, backend: Backend
    ) -> None:
        await take(backend.claims, A, "r")
        await take(backend.claims, B, "r")
        holder, now = A, AT
        for number in range(OVERTAKEN_MAX):
            now += 1
            assert await release(backend.claims, holder, at=now) == ["b"]
            holder = Owner(f"c{number}", 1)
            assert await take(backend.claims, holder, "r", at=now, overtake_before=now) == Refused([], ["b"])
            assert await take(backend.claims, holder, "r", at=now + 5, overtake_before=now + 1) == Acquired()
            now += 5
        assert await take(backend.claims, C, "r", at=now) == Refused([holder], [])
        assert await release(backend.claims, holder, at=now) == ["b", "c"]  # whoever comes first
        assert await take(backend.claims, C, "r", at=now) == Acquired()
        assert await take(backend.claims, B, "r", at=now) == Refused([C], [])  # it came, so it is awake
        assert await release(backend.claims, C, at=now) == ["b"]
        assert await take(backend.claims, C, "r", at=now) == Refused([], ["b"])
        assert await take(backend.claims, B, "r", at=now) == Acquired()

    async def test_is_called_tells_a_call_that_came_since_the_refusal(self, backend: Backend) -> None:
        await take(backend.claims, A, "r")
        assert not await backend.claims.is_called("b", now=AT + 9)
        await take(backend.claims, B, "r")
        assert not await backend.claims.is_called("b", now=AT + 9)
        await release(backend.claims, A, at=AT + 2)
        for at in (AT + 1, AT + 2):  # also by a clock that is behind
            assert await backend.claims.is_called("b", now=at)

    async def test_who_acquires_leaves_the_lines(self, backend: Backend) -> None:
        await take(backend.claims, A, "r1", "r2")
        await take(backend.claims, B, "r1", "r2")
        await release(backend.claims, A, at=AT)
        assert await take(backend.claims, B, "r1", "r2") == Acquired()
        assert await views(backend.claims) == {"r1": ([B], []), "r2": ([B], [])}

    # --- release -------------------------------------------------------------

    async def test_release_frees_all_that_the_owner_holds(self, backend: Backend) -> None:
        await take(backend.claims, A, "r1", "r2")
        await take(backend.claims, B, "r3")
        assert await release(backend.claims, A, at=AT) == []
        assert await views(backend.claims) == {"r3": ([B], [])}
        assert await take(backend.claims, B, "r1", "r2") == Acquired()

    async def test_release_gives_the_first_waiter_of_each_resource_and_marks_it_called(
        self, backend: Backend
    ) -> None:
        await take(backend.claims, A, "r1", "r2", "r3")
        await take(backend.claims, B, "r1", "r2", at=AT + 1)
        await take(backend.claims, C, "r2", "r3", at=AT + 2)
        assert sorted(await release(backend.claims, A, at=AT + 7)) == ["b", "c"]
        assert await backend.claims.show() == [
            ResourceView("r1", [], [Waiter("b", AT + 1, AT + 7)]),
            ResourceView("r2", [], [Waiter("b", AT + 1, AT + 7), Waiter("c", AT + 2)]),
            ResourceView("r3", [], [Waiter("c", AT + 2, AT + 7)]),
        ]

    async def test_release_is_idempotent(self, backend: Backend) -> None:
        """A second release wakes nobody, not even while a waiter has not come yet."""
        await take(backend.claims, A, "r")
        await take(backend.claims, B, "r")
        assert await release(backend.claims, A, at=AT + 1) == ["b"]
        assert await release(backend.claims, A, at=AT + 2) == []
        [view] = await backend.claims.show()
        assert list(view.waiters) == [Waiter("b", AT, AT + 1)]
        assert await release(backend.claims, Owner("nobody", 1), at=AT) == []

    async def test_an_older_token_releases_nothing_of_a_newer_one(self, backend: Backend) -> None:
        newer = Owner("a", 9)
        await take(backend.claims, newer, "r")
        await take(backend.claims, B, "r")
        for stale in (A, Owner("a", 8), Owner("b", 9)):
            assert await release(backend.claims, stale, at=AT) == []
        assert await views(backend.claims) == {"r": ([newer], ["b"])}

    async def test_a_newer_token_releases_what_an_older_one_has_left(self, backend: Backend) -> None:
        """The lease of an older token is over once there is a newer one."""
        await take(backend.claims, A, "r")
        await take(backend.claims, B, "r")
        assert await release(backend.claims, Owner("a", 9), at=AT) == ["b"]
        assert await views(backend.claims) == {"r": ([], ["b"])}

    async def test_of_many_releases_at_once_one_wakes_the_waiter(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        other = await harness.reopen()
        await take(backend.claims, A, "r")
        await take(backend.claims, B, "r")
        woken = await asyncio.gather(
            *(release((backend, other)[n % 2].claims, A, at=AT + n) for n in range(_RIVALS))
        )
        assert sorted(map(list, woken)) == [[]] * (_RIVALS - 1) + [["b"]]

    # --- leave ---------------------------------------------------------------

    async def test_leave_takes_a_work_item_out_of_every_line(self, backend: Backend) -> None:
        await take(backend.claims, A, "r1", "r2")
        await take(backend.claims, B, "r1", "r2")
        await take(backend.claims, C, "r2")
        assert await leave(backend.claims, "b", at=AT) == []  # both are held: nobody can come
        assert await views(backend.claims) == {"r1": ([A], []), "r2": ([A], ["c"])}

    async def test_leave_wakes_who_is_first_in_line_of_a_free_resource_now(self, backend: Backend) -> None:
        await take(backend.claims, A, "r1", "r2")
        await take(backend.claims, B, "r1", "r2", at=AT + 1)
        await take(backend.claims, C, "r1", at=AT + 2)
        await release(backend.claims, A, at=AT + 3)
        assert await leave(backend.claims, "b", at=AT + 4) == ["c"]
        assert await backend.claims.show() == [ResourceView("r1", [], [Waiter("c", AT + 2, AT + 4)])]
        assert await take(backend.claims, C, "r1") == Acquired()

    async def test_leave_of_who_is_in_no_line_does_nothing(self, backend: Backend) -> None:
        await take(backend.claims, A, "r")
        assert await leave(backend.claims, "nobody", at=AT) == []
        assert await views(backend.claims) == {"r": ([A], [])}

    async def test_who_ends_gives_up_nothing_of_a_later_life(self, backend: Backend) -> None:
        """An end that is carried out late must not take away what the work took after a retry."""
        later = Owner("a", 9)
        await take(backend.claims, A, "r1")
        await take(backend.claims, later, "r2")
        await take(backend.claims, B, "r1", "r2")
        called = await backend.claims.leave(Owner("a", 5), now=AT)
        assert [call.work_id for call in called] == ["b"]
        assert await views(backend.claims) == {"r1": ([], ["b"]), "r2": ([later], ["b"])}

    # --- show ----------------------------------------------------------------

    async def test_show_gives_resources_by_name(self, backend: Backend) -> None:
        assert await backend.claims.show() == []
        await take(backend.claims, A, "r2", "r9")
        await take(backend.claims, B, "r2", "r1")
        await take(backend.claims, C, "r5")
        assert [view.resource for view in await backend.claims.show()] == ["r1", "r2", "r5", "r9"]
        assert [view.resource for view in await backend.claims.show(limit=2)] == ["r1", "r2"]

    async def test_show_gives_the_one_named(self, backend: Backend) -> None:
        await take(backend.claims, A, "r1", "r2")
        await take(backend.claims, B, "r2", at=AT + 4)
        assert await backend.claims.show(resource="r2") == [ResourceView("r2", [A], [Waiter("b", AT + 4)])]
        assert await backend.claims.show(resource="unknown") == []

    async def test_show_leaves_out_what_is_neither_held_nor_waited_for(self, backend: Backend) -> None:
        await take(backend.claims, A, "r")
        await take(backend.claims, B, "r")
        await release(backend.claims, A, at=AT)
        await leave(backend.claims, "b", at=AT)
        assert await backend.claims.show() == []
        assert await backend.claims.show(resource="r") == []
