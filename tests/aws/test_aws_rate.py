"""How much of the client's CPU a step takes, with the network out of the way.

By CPU seconds, which a busy machine changes less than the wall clock; the best of a few
tries counts. `python -m tests.bench.aws` prints more.
"""

from __future__ import annotations

import pytest

from tests.bench.aws import GROUP, PLAIN, Mode, calls, load_target, run

pytestmark = [pytest.mark.slow, pytest.mark.soak]

TRIES = 4


@pytest.mark.parametrize(
    ("mode", "items", "steps_per_core_second"), [(PLAIN, 16, 900), (GROUP, 128, 4000)], ids=["plain", "group"]
)
def test_steps_per_second_and_core(mode: Mode, items: int, steps_per_core_second: float) -> None:
    reached = []
    with load_target(5.0) as url:
        for _ in range(TRIES):
            rate = run(url, mode, items=items)
            reached.append(rate.steps / rate.cpu_seconds)
            if reached[-1] >= steps_per_core_second:
                break
        made = calls(url)
    assert max(reached) >= steps_per_core_second, reached
    if mode is GROUP:
        appended = made["BatchExecuteStatement"] + made["PutItem"]
        assert appended < rate.steps * len(reached) / 5, "many appends did not share calls"
