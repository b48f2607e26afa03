"""What autoscaling makes of sample values: the module's own expressions, evaluated as CloudWatch does.

How many tasks follow is the arithmetic of Application Auto Scaling: target tracking aims at
`ceil(tasks * metric / target)` (its user guide, "How target tracking scaling works"), a step adds a
share of the tasks, at least one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.infra.hcl import read
from tests.infra.terraform import INFRA

LANES = ("high", "low", "normal")
MODULE = read(INFRA / "modules/worker-ecs")
TARGET = MODULE.named("variable")["work_per_task"]["default"]
OLDEST_SECONDS = MODULE.named("variable")["oldest_seconds"]["default"]

Value = float | None


def FILL(value: Value, other: float) -> float:
    return other if value is None else value


def IF(condition: bool, then: Value, other: Value) -> Value:
    return then if condition else other


def MAX(values: Sequence[Value]) -> Value:
    return max(value for value in values if value is not None)


FUNCTIONS = {"FILL": FILL, "IF": IF, "MAX": MAX}


def expression(name: str) -> str:
    """The expression of a metric's id, with one term for each lane."""
    [found] = re.findall(rf'id\s+= "{name}"\n.*\n\s+expression\s+= "(.*)"\n', MODULE.text)
    terms = re.findall(r'(\w+)\s+= join\("\+", \[for queue in local.letters : "(.*)"\]\)', MODULE.text)
    for local, term in terms:
        found = found.replace(f"${{local.{local}}}", "+".join(_of_lanes(term)))
    inner = re.search(r'\$\{join\(",", \[for queue in local.letters : "(.*)"\]\)\}', found)
    return found if inner is None else found.replace(inner[0], ",".join(_of_lanes(inner[1])))


def _of_lanes(term: str) -> list[str]:
    return [term.replace("${queue.id}", str(number)) for number in range(len(LANES))]


def evaluate(name: str, values: Mapping[str, Value]) -> Value:
    """The value of an expression; None where a series that it needs is missing."""
    ids = dict.fromkeys(re.findall(r"\b[a-z]+\d?\b", expression(name)))
    try:
        found: Any = eval(expression(name), {"__builtins__": {}}, {**FUNCTIONS, **ids, **values})
    except TypeError:  # arithmetic with nothing
        return None
    return None if found is None else float(found)


def tracked(tasks: int, values: Mapping[str, Value]) -> int:
    """How many tasks target tracking wants."""
    metric = evaluate("work", {"tasks": float(tasks) or None, **values})
    assert metric is not None
    return math.ceil(max(tasks, 1) * metric / TARGET)


def stepped(tasks: int, age_seconds: float) -> int:
    """How many tasks the age of the oldest message wants."""
    above = age_seconds - OLDEST_SECONDS
    if above <= 0:
        return tasks
    blocks = MODULE.typed("resource")
    [policy] = [
        body for kind, name, body in blocks if (kind, name) == ("aws_appautoscaling_policy", "oldest")
    ]
    [step_policy] = policy["step_scaling_policy_configuration"]
    first, second = step_policy["step_adjustment"]
    percent = first["scaling_adjustment"] if above < OLDEST_SECONDS else second["scaling_adjustment"]
    return tasks + max(step_policy["min_adjustment_magnitude"], math.floor(tasks * percent / 100))


@pytest.mark.parametrize(
    ("tasks", "waiting", "in_hand", "wanted"),
    [
        (4, 40, 32, 9),  # 72 pieces of work, 8 a task
        (4, 0, 32, 4),  # all busy, nothing waits: as it is
        (4, 0, 3, 1),  # nearly done: fewer
        (1, 0, 1, 1),  # a step that takes hours keeps its task
        (3, 0, 0, 0),  # nothing to do: as few as tasks_min
        (1, 800, 8, 101),
    ],
)
def test_tasks_follow_the_work(tasks: int, waiting: float, in_hand: float, wanted: int) -> None:
    assert tracked(tasks, {"waiting2": waiting, "inhand2": in_hand}) == wanted


def test_lanes_that_sqs_tells_nothing_of_count_as_empty() -> None:
    """Nobody has touched their queues for six hours."""
    assert evaluate("work", {"waiting2": 9.0, "tasks": 3.0}) == 3.0
    assert evaluate("unattended", {"waiting2": 9.0}) == 9.0
    assert evaluate("oldest", {"age2": 130.0}) == 130.0


def test_the_first_message_starts_a_task_where_there_is_none() -> None:
    assert evaluate("unattended", {"waiting0": 0.0, "waiting1": 0.0, "waiting2": 1.0}) == 1.0
    assert evaluate("unattended", {"waiting2": 1.0, "tasks": 1.0}) == 0.0
    assert evaluate("unattended", {}) == 0.0


def test_work_goes_from_no_task_to_many_and_back_to_none() -> None:
    """A minute a round; a task does 16 pieces of work in one."""
    tasks, waiting, seen = 0, 100.0, []
    for _ in range(12):
        in_hand = min(waiting, 8.0 * tasks)
        values = {"waiting2": waiting - in_hand, "inhand2": in_hand}
        unattended = evaluate("unattended", {"tasks": float(tasks) or None, **values})
        assert unattended is not None
        tasks = 1 if unattended >= 1 else min(10, tracked(tasks, values)) if tasks else 0
        waiting = max(0.0, waiting - 16.0 * tasks)
        seen.append(tasks)
    assert seen[0] == 1
    assert max(seen) == 10
    assert seen[-1] == 0
    assert waiting == 0


@pytest.mark.parametrize(
    ("tasks", "age_seconds", "wanted"), [(4, 120, 4), (4, 130, 5), (1, 130, 2), (4, 250, 8), (10, 239, 12)]
)
def test_old_messages_add_tasks(tasks: int, age_seconds: float, wanted: int) -> None:
    assert stepped(tasks, age_seconds) == wanted
