"""The memory backend as model of claims and lines: the same random calls, and the same answers."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from roost.journal.claims import Acquired, Ask, Owner, Refused, Want
from roost.journal.limits import Change, Close, Open, Rate, SetCapacity, SetRate
from roost.names import Scope
from roost.testing.contract.harness import AT, BackendHarness
from roost.testing.contract.machine import Machine, listed, work_ids

RESOURCES = ("r1", "r2", "r3")


class ClaimsMachine(Machine):
    """Work items with resources of their own, under growing tokens."""

    wants: ClassVar[dict[str, tuple[Want, ...]]] = {
        "a": (Want("r1"), Want("r2", 2)),
        "b": (Want("r2", 3), Want("r3")),
        "c.1": (Want("r3"),),
        "c.2": (Want("r1"), Want("r2", 2), Want("r3", 2)),
    }

    def __init__(self, harness: BackendHarness) -> None:
        super().__init__(harness)
        self._now = AT
        self._uses = 0

    @rule(
        work_id=work_ids,
        token=st.integers(1, 3),
        scope=st.sampled_from(Scope),
        patience=st.integers(0, 3),
        is_new=st.booleans(),
    )
    def acquire(self, work_id: str, token: int, scope: Scope, patience: int, is_new: bool) -> None:
        self._now += 1
        self._uses += is_new
        ask = Ask(Owner(work_id, token, scope), self.wants[work_id], self._uses)
        model, real = self.both(
            lambda backend: backend.claims.acquire(ask, now=self._now, overtake_before=self._now - patience)
        )
        assert _plain(real) == _plain(model)

    @rule(work_id=work_ids, token=st.integers(1, 3), scope=st.sampled_from(Scope))
    def release(self, work_id: str, token: int, scope: Scope) -> None:
        self._now += 1
        owner = Owner(work_id, token, scope)
        model, real = self.both(lambda backend: backend.claims.release(owner, now=self._now))
        assert sorted(real, key=str) == sorted(model, key=str)

    @rule(work_id=work_ids, token=st.integers(1, 3))
    def leave(self, work_id: str, token: int) -> None:
        self._now += 1
        owner = Owner(work_id, token)
        model, real = self.both(lambda backend: backend.claims.leave(owner, now=self._now))
        assert sorted(real, key=str) == sorted(model, key=str)

    @rule(work_id=work_ids, ahead=st.integers(0, 3))
    def is_called(self, work_id: str, ahead: int) -> None:
        self.same(lambda backend: backend.claims.is_called(work_id, now=self._now + ahead))

    @rule(
        resource=st.sampled_from(RESOURCES),
        change=st.builds(SetCapacity, st.none() | st.integers(1, 3))
        | st.builds(SetRate, st.none() | st.builds(Rate, st.integers(1, 3), st.sampled_from([1.0, 4.0])))
        | st.builds(Open)
        | st.sampled_from([2.0, 5.0]),
    )
    def change(self, resource: str, change: Change | float) -> None:
        self._now += 1
        made = Close(self._now + change) if isinstance(change, float) else change
        model, real = self.both(lambda backend: backend.claims.change(resource, made, now=self._now))
        assert sorted(real, key=str) == sorted(model, key=str)

    @rule(resource=st.none() | st.sampled_from(RESOURCES), limit=st.integers(1, 3))
    def show(self, resource: str | None, limit: int) -> None:
        self.same(lambda backend: listed(backend.claims.show(limit=limit, resource=resource)))

    @invariant()
    def lines_are_the_same(self) -> None:
        model = self.wait(self.model.claims.show())
        assert list(self.wait(self.other.claims.show())) == list(model)


def _plain(answer: Acquired | Refused) -> object:
    if isinstance(answer, Acquired):
        return answer
    owners = sorted((owner.work_id, owner.token) for owner in answer.owners)
    return owners, sorted(answer.ahead), answer.retry_at, sorted(answer.limited)
