"""What durable runtimes are held to elsewhere, group by group, and where it is checked here.

The groups and numbers are those of AWS's durable execution conformance requirements
(`aws-durable-execution-conformance-tests`, a68f527). The behaviour is theirs, the checks are
our own: most are in the contract suite, and so run on every backend.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACT = "roost/testing/contract/"
CONFORMANCE = f"{CONTRACT}conformance.py::ConformanceContract"


@dataclass(frozen=True)
class Group:
    """A group of requirements.

    Attributes:
        numbers: of the requirements.
        tests: that check it, `PATH::CLASS::TEST` or `PATH::TEST`.
        note: what is different here.
    """

    name: str
    numbers: str
    tests: tuple[str, ...]
    note: str = ""


GROUPS = (
    Group(
        "result fidelity",
        "1-1 1-3 1-4 1-5 3-16 5-3 5-4 6-9 6-10 7-15",
        (
            f"{CONFORMANCE}::test_every_json_value_comes_back_equal_by_every_way",
            "tests/unit/test_properties.py::test_json_comes_back_equal_and_as_a_copy",
        ),
    ),
    Group(
        "custom codec",
        "1-6 3-14 4-15 4-16 5-15 5-16 6-11 7-11 8-15 9-14 9-19 9-20",
        (
            "tests/unit/test_codec.py::TestBodies::test_any_bytes_read_back",
            "tests/unit/test_codec.py::TestBodies::test_small_bodies_stay_plain",
            "tests/unit/test_codec.py::TestBodies::test_a_bomb_is_not_unpacked",
        ),
        "There is one codec, which compresses; none of one's own. What is stored is encrypted by the storage "
        "(KMS on AWS), and what must not be stored plainly is an artifact that the engine encrypts itself.",
    ),
    Group(
        "no re-execution",
        "1-8 1-9 3-9 3-13 3-18 5-9 8-14 9-15 9-17",
        (
            f"{CONTRACT}backend.py::BackendContract::test_a_result_recorded_once_outlives_the_worker",
            f"{CONTRACT}backend.py::BackendContract::test_work_of_a_dead_worker_is_taken_over_after_its_lease",
            "tests/crash/test_crash.py::test_work_survives_a_worker_killed_every_300_ms",
            "tests/crash/test_crash.py::test_a_crash_at_this_point_loses_and_doubles_nothing",
        ),
    ),
    Group(
        "failure is durable",
        "1-10 1-19 3-4 3-15 5-5 5-10 7-4 9-18",
        (f"{CONFORMANCE}::test_a_failure_stays_what_it_was_and_its_parent_learns_of_it",),
    ),
    Group(
        "handled failure",
        "1-20 3-5 4-13 4-14 5-6 6-8 7-6 7-14",
        (
            f"{CONFORMANCE}::test_a_failure_stays_what_it_was_and_its_parent_learns_of_it",
            f"{CONFORMANCE}::test_every_policy_comes_to_its_verdict",
            f"{CONTRACT}approvals.py::ApprovalsContract::"
            "test_an_expired_token_is_refused_and_the_engine_decides_what_then",
        ),
    ),
    Group(
        "retry",
        "1-11 1-12 1-13 1-14 1-15 1-16 3-7 3-8 6-7 7-7",
        (
            f"{CONFORMANCE}::test_attempts_are_exact_and_a_refusal_is_final",
            f"{CONTRACT}attempts.py::AttemptsContract::test_a_step_that_raises_is_an_attempt",
            f"{CONTRACT}ends.py::EndsContract::test_a_failed_step_is_tried_again_with_its_own_snapshot",
            f"{CONTRACT}ends.py::EndsContract::test_work_that_fails_for_good_is_dead_lettered_and_can_be_retried",
            f"{CONTRACT}ends.py::EndsContract::test_retry_later_burns_no_attempt",
            "tests/unit/test_session.py::TestBursts::test_a_failed_step_waits_longer_each_time",
        ),
    ),
    Group(
        "at most once",
        "1-17 1-18 3-12",
        (
            f"{CONFORMANCE}::test_an_effect_that_may_have_happened_is_not_repeated",
            "tests/unit/test_long_steps.py::test_an_effect_whose_outcome_is_unknown_fails_work_that_does_not_ask",
        ),
    ),
    Group("logs", "1-7 3-17", (f"{CONFORMANCE}::test_what_a_step_logs_is_said_once_for_each_time_it_ran",)),
    Group(
        "waits",
        "2-1 2-3 2-4 2-5",
        (
            f"{CONFORMANCE}::test_a_wait_of_any_length_is_neither_cut_nor_doubled",
            f"{CONTRACT}backend.py::BackendContract::test_a_delayed_step_waits_for_its_time",
            f"{CONTRACT}backend.py::BackendContract::"
            "test_a_long_delay_sends_nothing_until_a_sweeper_finds_it_due",
        ),
    ),
    Group(
        "polling step",
        "6-1 6-2 6-4 6-5 6-6 6-12 6-13",
        (f"{CONFORMANCE}::test_a_polling_step_gives_up_after_so_many_times",),
    ),
    Group(
        "signals",
        "4-1 4-6 4-7 4-9 4-10 4-12 4-17 4-18 4-19 7-1 7-9 7-10",
        (
            f"{CONTRACT}signals.py::SignalsContract::test_a_signal_wakes_who_waits_and_is_seen_by_one_step",
            f"{CONTRACT}signals.py::SignalsContract::test_a_signal_may_come_before_the_wait",
            f"{CONTRACT}signals.py::SignalsContract::test_a_failed_step_is_given_its_signals_again",
            f"{CONFORMANCE}::test_signals_come_in_during_a_step_and_a_sleep",
            f"{CONFORMANCE}::test_two_waits_take_their_signals_in_either_order",
            f"{CONTRACT}approvals.py::ApprovalsContract::test_an_answer_is_taken_once_with_who_and_when",
        ),
    ),
    Group(
        "signal timeout, heartbeat",
        "4-3 4-4 4-5 4-8 4-11 7-5 7-12 7-13",
        (
            f"{CONTRACT}signals.py::SignalsContract::"
            "test_a_wait_times_out_and_the_step_says_so_or_the_work_fails",
            f"{CONTRACT}approvals.py::ApprovalsContract::"
            "test_an_expired_token_is_refused_and_the_engine_decides_what_then",
            f"{CONFORMANCE}::test_a_heartbeat_extends_a_wait",
            "tests/simulation/test_simulation.py::test_without_faults_work_goes_on_the_moment_it_can",
        ),
        "A signal that comes after the timeout is kept for a later step; a late approval is refused.",
    ),
    Group(
        "children",
        "3-1 3-3 3-6 5-1 5-11 5-12 5-13 5-14 8-1 8-4 8-21 9-1 9-3",
        (
            f"{CONTRACT}children.py::ChildrenContract::"
            "test_children_start_with_the_commit_and_report_to_who_waits",
            f"{CONTRACT}children.py::ChildrenContract::"
            "test_children_that_a_crash_left_out_are_started_by_whoever_comes_next",
            f"{CONFORMANCE}::test_nested_children_report_in_order_and_stay_in_their_namespace",
        ),
    ),
    Group(
        "child isolation by tenant",
        "5-8",
        (f"{CONFORMANCE}::test_nested_children_report_in_order_and_stay_in_their_namespace",),
        "A child can't name a namespace: it has that of its parent.",
    ),
    Group(
        "join policies",
        "8-5 8-6 8-7 8-8 8-9 8-10 8-13 8-16 8-17 8-18 8-19 8-20 8-22 9-4 9-5 9-6 9-7 9-8 9-9 9-10",
        (
            f"{CONFORMANCE}::test_every_policy_comes_to_its_verdict",
            f"{CONFORMANCE}::test_a_policy_that_never_could_come_true_fails_the_work",
            f"{CONTRACT}children.py::ChildrenContract::"
            "test_the_first_child_that_is_done_is_enough_and_the_rest_is_cancelled",
            f"{CONTRACT}children.py::ChildrenContract::"
            "test_a_join_that_comes_true_after_a_signal_woke_its_parent_cancels_the_rest",
        ),
    ),
    Group(
        "concurrency",
        "8-11 9-11",
        (f"{CONFORMANCE}::test_nested_children_report_in_order_and_stay_in_their_namespace",),
    ),
    Group(
        "large payload",
        "3-11 5-7 9-16",
        (
            f"{CONFORMANCE}::test_data_up_to_its_limit_is_taken_and_beyond_it_refused",
            f"{CONTRACT}backend.py::BackendContract::test_a_body_too_large_for_an_entry_is_kept_all_the_same",
            "tests/unit/test_properties.py::test_size_is_bounded_exactly",
        ),
    ),
    Group(
        "hooks",
        "10-1 10-2 10-3 10-4 10-5 10-6 10-7 10-9 10-10 10-11 10-14 10-15 10-16 10-17",
        (
            "tests/unit/test_observe.py::test_who_is_watched_makes_not_one_call_more",
            "tests/unit/test_observe.py::test_outcomes_are_counted",
            "tests/unit/test_observe.py::test_what_a_step_does_is_inside_its_span",
        ),
        "No plugin is called between steps: an engine wraps its own `step`. Who watches reads spans, metrics "
        "and entries, which come in order, with attempt numbers, and can change nothing.",
    ),
)

NOT_TAKEN = (
    "1-2 2-2 3-2 3-10 4-2 5-2 6-3 7-2 7-3 7-8 8-2 8-3 8-12 9-2 9-12 9-13 10-8 10-12 10-13 10-18 10-19 10-20 "
    "10-21 10-22 10-23"
)
"""Names, forms of calls, flat nesting and replay flags: without a replay they mean nothing."""


@cache
def checks_in(path: str) -> frozenset[str]:
    """The tests of a module, `TEST` or `CLASS::TEST`."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {
            prefix + one.name for one in members if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    return frozenset(found)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_each_group_has_checks_and_each_check_is_there(group: Group) -> None:
    assert group.tests
    for test in group.tests:
        path, _, name = test.partition("::")
        assert name.rpartition("::")[2].startswith("test_")
        assert name in checks_in(path), test


def test_each_requirement_is_in_one_group() -> None:
    """171 of them, counted by area as upstream counts its files."""
    numbers = [number for group in GROUPS for number in group.numbers.split()] + NOT_TAKEN.split()
    assert len(numbers) == len(set(numbers))
    areas = [number.partition("-")[0] for number in numbers]
    sizes = {area: areas.count(area) for area in dict.fromkeys(sorted(areas, key=int))}
    assert sizes == dict(zip(map(str, range(1, 11)), (20, 5, 18, 19, 16, 13, 15, 22, 20, 23), strict=True))
