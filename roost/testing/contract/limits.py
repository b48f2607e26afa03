"""The contract of `ports.ResourceClaims`: capacities, scopes, rates, closed resources."""

from __future__ import annotations

import asyncio

from roost.journal.claims import Acquired, Call, Owner, Refused, ResourceView, Waiter, Want
from roost.journal.limits import FOREVER_AT, Close, Limits, Open, Rate, SetCapacity, SetRate
from roost.names import Scope
from roost.storage.ports import Backend
from roost.testing.contract.claims import A, B, C, leave, release, take, views
from roost.testing.contract.harness import AT, BackendHarness, Contract

D = Owner("d", 1)
_RIVALS = 8


class LimitsContract(Contract):
    """As many owners as the capacity, as many starts as the rate, nobody while it is closed."""

    # --- capacity ------------------------------------------------------------

    async def test_as_many_hold_a_resource_as_it_has_room_for(self, backend: Backend) -> None:
        two = Want("r", capacity=2)
        assert await take(backend.claims, A, two) == Acquired()
        assert await take(backend.claims, B, two) == Acquired()
        assert await take(backend.claims, C, two) == Refused([A, B], [])
        assert await take(backend.claims, D, two) == Refused([A, B], [])
        assert await views(backend.claims) == {"r": ([A, B], ["c", "d"])}
        assert await release(backend.claims, B) == ["c"]
        assert await take(backend.claims, D, two) == Refused([], ["c"])
        assert await take(backend.claims, C, two) == Acquired()

    async def test_who_wants_it_alone_is_alone(self, backend: Backend) -> None:
        """Without a setting the least that any of them gave as capacity holds: readers and writers."""
        many = Want("r", capacity=9)
        await take(backend.claims, A, many)
        assert await take(backend.claims, B, "r") == Refused([A], [])
        assert await take(backend.claims, C, many) == Refused([], ["b"])  # who came later does not pass it
        assert await release(backend.claims, A) == ["b"]
        assert await take(backend.claims, B, "r") == Acquired()
        assert await take(backend.claims, C, many) == Refused([B], [])
        assert await release(backend.claims, B) == ["c"]

    async def test_an_operators_capacity_wins_and_can_change_while_it_is_held(self, backend: Backend) -> None:
        claims = backend.claims
        await claims.change("r", SetCapacity(2), now=AT)
        for owner in (A, B):
            assert await take(claims, owner, "r") == Acquired()
        assert await take(claims, C, Want("r", capacity=9)) == Refused([A, B], [])
        assert await take(claims, D, "r") == Refused([A, B], [])
        assert await claims.change("r", SetCapacity(4), now=AT + 1) == [Call("c", AT + 1), Call("d", AT + 1)]
        assert await take(claims, C, "r") == Acquired()
        await claims.change("r", SetCapacity(1), now=AT + 2)  # what is held stays held
        assert await take(claims, D, "r") == Refused([A, B, C], [])
        for owner in (A, B):
            assert await release(claims, owner) == []
        assert await release(claims, C) == ["d"]
        [view] = await claims.show()
        assert view.limits == Limits(capacity=1)

    async def test_of_many_at_once_no_more_get_it_than_there_is_room_for(
        self, backend: Backend, harness: BackendHarness
    ) -> None:
        other = await harness.reopen()
        asked = (
            take((backend, other)[n % 2].claims, Owner(f"w{n}", 1), Want("r", capacity=3))
            for n in range(_RIVALS)
        )
        answers = await asyncio.gather(*asked)
        assert answers.count(Acquired()) == 3
        [view] = await backend.claims.show()
        assert (len(view.owners), len(view.waiters)) == (3, _RIVALS - 3)

    async def test_a_release_calls_no_more_than_there_is_room_for(self, backend: Backend) -> None:
        two = Want("r", capacity=2)
        await take(backend.claims, A, two)
        await take(backend.claims, B, two)
        for number in range(3):
            await take(backend.claims, Owner(f"w{number}", 1), two)
        assert await release(backend.claims, A) == ["w0"]
        assert await release(backend.claims, B) == ["w1"]
        assert await leave(backend.claims, "w0") == ["w2"]  # its place is free again

    async def test_who_wants_it_alone_and_was_overtaken_is_called_again(self, backend: Backend) -> None:
        """Also where there would be room for more of those who share it."""
        many = Want("r", capacity=9)
        await take(backend.claims, A, many)
        await take(backend.claims, B, "r")
        assert await release(backend.claims, A, at=AT + 1) == ["b"]
        assert await take(backend.claims, C, many, at=AT + 50, overtake_before=AT + 20) == Acquired()
        assert await release(backend.claims, C, at=AT + 51) == ["b"]
        assert await take(backend.claims, C, many, at=AT + 52, overtake_before=AT + 22) == Refused([], ["b"])

    # --- scopes --------------------------------------------------------------

    async def test_a_claim_of_scope_work_outlives_the_lease(self, backend: Backend) -> None:
        first, second = Owner("a", 1, Scope.WORK), Owner("a", 7, Scope.WORK)
        await take(backend.claims, first, "r")
        await take(backend.claims, B, "r")
        assert await release(backend.claims, Owner("a", 1)) == []
        assert await take(backend.claims, second, "r") == Acquired()
        assert await views(backend.claims) == {"r": ([second], ["b"])}
        assert await leave(backend.claims, "a") == ["b"]
        assert await views(backend.claims) == {"r": ([], ["b"])}

    async def test_an_operator_takes_a_claim_of_scope_work_away(self, backend: Backend) -> None:
        owner = Owner("a", 1, Scope.WORK)
        await take(backend.claims, owner, "r1", "r2")
        await take(backend.claims, B, "r2")
        assert await release(backend.claims, owner) == ["b"]
        assert await views(backend.claims) == {"r2": ([], ["b"])}

    # --- closed --------------------------------------------------------------

    async def test_nobody_starts_while_a_resource_is_closed(self, backend: Backend) -> None:
        claims = backend.claims
        assert await claims.change("r", Close(AT + 60), now=AT) == []
        refused = Refused([], [], retry_at=AT + 60, limited=["r"])
        assert await take(claims, A, "r", "free") == refused
        assert not await claims.is_called("a", now=AT + 59)
        assert await take(claims, A, "r", "free", at=AT + 59) == refused
        assert await claims.is_called("a", now=AT + 60)
        assert await take(claims, A, "r", "free", at=AT + 60) == Acquired()

    async def test_who_waits_for_an_opening_keeps_nobody_from_other_resources(self, backend: Backend) -> None:
        await backend.claims.change("r", Close(AT + 60), now=AT)
        await take(backend.claims, A, "r", "free")
        assert await take(backend.claims, B, "free") == Acquired()
        assert await take(backend.claims, A, "r", "free", at=AT + 60) == Refused([B], [])
        assert await take(backend.claims, C, "free", at=AT + 61) == Refused([B], [])
        assert await release(backend.claims, B, at=AT + 62) == ["a"]

    async def test_an_opening_wakes_no_crowd(self, backend: Backend) -> None:
        """As many come back as there is room for; each calls the next when it is done."""
        claims = backend.claims
        await claims.change("r", Close(AT + 60), now=AT)
        assert (await take(claims, A, "r")).retry_at == AT + 60  # type: ignore[union-attr]
        assert await take(claims, B, "r") == Refused([], ["a"])
        assert await take(claims, C, "r") == Refused([], ["a", "b"])
        assert await claims.leave(Owner("a", 9), now=AT + 1) == [Call("b", AT + 60)]
        assert await take(claims, B, "r", at=AT + 60) == Acquired()
        assert await release(claims, B, at=AT + 61) == ["c"]

    async def test_the_later_of_two_closings_stands_and_an_operator_opens(self, backend: Backend) -> None:
        claims = backend.claims
        await claims.change("r", Close(FOREVER_AT, "an operator"), now=AT)
        await claims.change("r", Close(AT + 5, "w"), now=AT)
        assert (await take(claims, A, "r")).retry_at == FOREVER_AT  # type: ignore[union-attr]
        assert await claims.show() == [
            ResourceView(
                "r",
                [],
                [Waiter("a", AT, FOREVER_AT, is_timed=True)],
                Limits(closed_until=FOREVER_AT, closed_by="an operator"),
            )
        ]
        assert await claims.change("r", Open(), now=AT + 9) == [Call("a", AT + 9)]
        assert await take(claims, A, "r", at=AT + 10) == Acquired()

    async def test_who_closes_a_resource_that_it_holds_may_not_start_again_either(
        self, backend: Backend
    ) -> None:
        claims = backend.claims
        await take(claims, A, "r")
        await claims.change("r", Close(AT + 60), now=AT)
        refused = await take(claims, A, "r", use=1)
        assert refused == Refused([], [], retry_at=AT + 60, limited=["r"])
        await take(claims, B, "r")
        assert await claims.release(A, now=AT + 1) == []  # the first in line comes at the opening
        assert await take(claims, A, "r", at=AT + 60) == Acquired()

    # --- rates ---------------------------------------------------------------

    async def test_starts_are_spaced_by_the_rate_and_nobody_polls(self, backend: Backend) -> None:
        """Two at once, then one in ten seconds; who is refused is told its turn, each another."""
        claims, wants = backend.claims, Want("r", capacity=9)
        await claims.change("r", SetRate(Rate(2, 20.0)), now=AT)
        owners = [Owner(f"w{number}", 1) for number in range(5)]
        answers = [await take(claims, owner, wants) for owner in owners]
        assert answers[:2] == [Acquired(is_counted=True)] * 2
        assert [getattr(answer, "retry_at", None) for answer in answers[2:]] == [AT + 10, AT + 20, AT + 30]
        assert await take(claims, owners[4], wants, at=AT + 25) == answers[4]  # too early: the same turn
        for owner, after in zip(owners[2:], (10, 20, 30), strict=True):
            assert await take(claims, owner, wants, at=AT + after) == Acquired(is_counted=True)
        late = await take(claims, Owner("new", 1), wants, at=AT + 31)
        assert late == Refused([], [], retry_at=AT + 40, limited=["r"])

    async def test_each_start_is_counted_once(self, backend: Backend) -> None:
        claims = backend.claims
        await claims.change("r", SetRate(Rate(1, 10.0)), now=AT)
        for _ in range(3):
            assert await take(claims, A, "r", use=5) == Acquired(is_counted=True)
        refused = await take(claims, A, "r", use=6)
        assert refused == Refused([], [], retry_at=AT + 10, limited=["r"])

    async def test_a_ticket_that_was_not_used_for_a_lease_is_void(self, backend: Backend) -> None:
        """Else the starts of a long wait could all come at once."""
        claims, wants = backend.claims, Want("r", capacity=9)
        await claims.change("r", SetRate(Rate(1, 10.0)), now=AT)
        await take(claims, A, wants)
        for owner in (B, C):
            await take(claims, owner, wants)
        assert await take(claims, B, wants, at=AT + 100, overtake_before=AT + 70) == Acquired(is_counted=True)
        refused = await take(claims, C, wants, at=AT + 100, overtake_before=AT + 70)
        assert refused == Refused([], [], retry_at=AT + 110, limited=["r"])

    async def test_a_new_rate_holds_at_once_and_calls_who_waits(self, backend: Backend) -> None:
        claims, wants = backend.claims, Want("r", capacity=2)
        await claims.change("r", SetRate(Rate(1, 3600.0)), now=AT)
        for owner in (A, B, C, D):
            await take(claims, owner, wants)
        await release(claims, A)
        called = await claims.change("r", SetRate(Rate(100, 1.0)), now=AT + 1)
        assert called == [Call("b", AT + 1), Call("c", AT + 1)]
        assert await take(claims, B, wants, at=AT + 2) == Acquired(is_counted=True)
        assert await take(claims, C, wants, at=AT + 2) == Acquired(is_counted=True)
        assert await release(claims, B, at=AT + 3) == ["d"]
        await claims.change("r", SetRate(None), now=AT + 4)
        assert await take(claims, D, wants, at=AT + 4) == Acquired()

    async def test_a_limited_resource_is_shown_and_one_without_limits_is_not(self, backend: Backend) -> None:
        claims = backend.claims
        rate = Rate(3, 1.5)
        await claims.change("r", SetRate(rate), now=AT, namespace="team")
        await claims.change("r", SetCapacity(7), now=AT, namespace="team")
        shown = [ResourceView("r", [], [], Limits(7, rate))]
        assert await claims.show(namespace="team") == shown
        assert await claims.show(namespace="team", resource="r") == shown
        assert await claims.show() == []
        await claims.change("r", SetRate(None), now=AT, namespace="team")
        await claims.change("r", SetCapacity(None), now=AT, namespace="team")
        assert await claims.show(namespace="team") == []
