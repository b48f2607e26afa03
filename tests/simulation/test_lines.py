"""Each checker of the lines can fail, and finds nothing in what is well."""

from __future__ import annotations

from roost.journal.limits import Rate

from .lines import (
    OVERTAKEN_MAX,
    Called,
    Denied,
    Flaw,
    Granted,
    LineRecord,
    Over,
    Stand,
    Voided,
    check_capacity,
    check_fairness,
    check_lines,
    check_rates,
    check_scopes,
)

LEASE_SECONDS = 30.0


def stand(*owners: str, waiting: tuple[str, ...] = (), most: int = 1, setting: int | None = None) -> Stand:
    """Owners whose names end in `!` hold for their whole life."""
    held = tuple((name.removesuffix("!"), name.endswith("!"), most) for name in owners)
    return Stand(held, tuple((name, most) for name in waiting), setting, None)


def granted(work_id: str, before: Stand, after: Stand, *, at: float = 100.0, token: int = 1) -> Granted:
    return Granted(work_id, token, at, at - LEASE_SECONDS, {"db": before}, {"db": after})


def denied(work_id: str, *, at: float = 0.0, retry_at: float | None = None) -> Denied:
    return Denied(work_id, at, ("db",), retry_at)


def numbers(flaws: list[Flaw]) -> list[int]:
    return [flaw.invariant for flaw in flaws]


def test_a_line_that_is_served_in_order_is_well() -> None:
    records: list[LineRecord] = [
        granted("a", stand(), stand("a")),
        denied("b"),
        denied("c"),
        Called("db", "b", 99.0),
        granted("b", stand(waiting=("b", "c")), stand("b", waiting=("c",))),
        Called("db", "c", 100.0),
        granted("c", stand(waiting=("c",)), stand("c")),
    ]
    assert not check_lines(records, lease_seconds=LEASE_SECONDS, are_clocks_right=True)


def test_one_owner_too_many_is_found() -> None:
    assert numbers(check_capacity([granted("b", stand("a"), stand("a", "b"))])) == [4]
    assert not check_capacity([granted("b", stand("a", most=2), stand("a", "b", most=2))])
    lowered = granted("b", stand("a", setting=1), stand("a", "b", setting=1, most=9))
    assert numbers(check_capacity([lowered])) == [4]


def test_owners_that_stay_while_the_capacity_is_lowered_are_well() -> None:
    again = granted("b", stand("a", "b", setting=1), stand("a", "b", setting=1))
    assert not check_capacity([again])


def test_a_claim_for_life_that_is_lost_is_found() -> None:
    first = granted("a", stand(), stand("a!"))
    other = granted("b", stand(), stand("b"))
    assert numbers(check_scopes([first, other])) == [4]
    assert not check_scopes([first, Over("a", 7), other])
    assert not check_scopes([granted("a", stand(), stand("a")), other])


def test_a_second_life_begins_after_the_end_of_the_first() -> None:
    retried = granted("a", stand(), stand("a!"), token=9)
    assert numbers(check_scopes([Over("a", 7), retried, granted("b", stand(), stand("b"))])) == [4]
    zombie = granted("a", stand(), stand("a!"), token=5)
    assert not check_scopes([Over("a", 7), zombie, granted("b", stand(), stand("b"))])


def overtaking(*before: LineRecord, at: float = 100.0) -> list[int]:
    """What is found where `x` passes `w`, which is in line."""
    record = granted("x", stand(waiting=("w", "x")), stand("x", waiting=("w",)), at=at)
    return numbers(check_fairness([denied("w"), *before, record]))


def test_a_waiter_that_is_overtaken_is_found() -> None:
    assert overtaking() == [12]  # it was never called
    assert overtaking(Called("db", "w", 80.0)) == [12]  # it has a lease's time to come
    assert overtaking(Called("db", "w", 60.0), denied("w")) == [12]  # it came, and was refused
    assert overtaking(Called("other", "w", 60.0)) == [12]


def test_a_waiter_that_did_not_come_or_is_away_may_be_overtaken() -> None:
    assert overtaking(Called("db", "w", 60.0)) == []
    assert overtaking(denied("w", retry_at=200.0)) == []
    assert overtaking(denied("w", retry_at=200.0), Voided("db")) == [12]


def test_where_there_is_room_for_all_nobody_is_overtaken() -> None:
    before, after = stand(waiting=("w", "x"), most=2), stand("x", waiting=("w",), most=2)
    assert not check_fairness([denied("w"), granted("x", before, after)])


def test_after_so_many_times_a_waiter_is_asleep_until_it_comes() -> None:
    times: list[LineRecord] = []
    for _ in range(OVERTAKEN_MAX):
        times += [Called("db", "w", 60.0), granted("x", stand(waiting=("w",)), stand("x", waiting=("w",)))]
    assert overtaking(*times) == []
    assert overtaking(*times[:-1]) == []
    assert overtaking(*times, denied("w")) == [12]


def test_too_many_starts_are_found() -> None:
    rate = Rate(2, 20.0)
    held = Stand((("a", False, 1),), (), None, rate)

    def starts(*instants: float) -> list[LineRecord]:
        return [Granted("a", 1, at, 0.0, {"db": held}, {"db": held}, ("db",)) for at in instants]

    assert not check_rates(starts(0, 0, 10, 20, 30), LEASE_SECONDS)
    assert not check_rates(starts(0, 0, 0, 0, 0), LEASE_SECONDS)  # three of them from tickets
    assert numbers(check_rates(starts(0, 0, 0, 0, 0, 0), LEASE_SECONDS)) == [16]
    assert not check_rates([*starts(0, 0, 0), Voided("db"), *starts(0, 0, 0)], LEASE_SECONDS)
