"""What a step logs stays with its attempt: bounded, without secrets, and at no append of its own."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from roost import RetryLater, RetryPolicy, Snapshot, WorkItem, current_step
from roost.clock import SystemIds
from roost.core.holder import Holder
from roost.core.parts import CoreSettings, Parts
from roost.core.step_log import (
    KEPT_COMMITTED_MAX_CHARS,
    KEPT_MAX_CHARS,
    LINE_MAX_CHARS,
    LINES_MAX,
    StepLines,
    StepLogger,
)
from roost.journal.entries import Entry
from roost.journal.events import Logged
from roost.models import Lane
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Delivery
from roost.testing import EngineHarness
from roost.testing.clock import ManualClock


class Talks:
    """Logs as it goes: its first step is put off, fails, and succeeds; its second logs nothing."""

    engine_id = "talks"
    retry = RetryPolicy(max_attempts=3)

    def __init__(self) -> None:
        self.tries = 0

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        if snapshot.version:
            return snapshot.finish()
        self.tries += 1
        log = current_step().log
        log.info("try %d, token=%s", self.tries, "hunter2")
        log.debug("nobody listens to this")
        if self.tries == 1:
            raise RetryLater(after=1)
        if self.tries == 2:
            log.warning("no answer from %(host)s", {"host": "search"})
            raise TimeoutError("no answer")
        return snapshot.next("told")


def logged(entry: Entry) -> list[tuple[str, str]]:
    return [(line.level, line.text) for line in entry.event.log] if isinstance(entry.event, Logged) else []


def test_each_attempt_keeps_its_own_lines_and_appends_nothing_for_them() -> None:
    with EngineHarness(Talks()) as harness:
        work = harness.enqueue("talks").run_to_end()
        kinds = [kind for kind in work.kinds if kind not in ("enqueued", "claimed", "settled")]
        assert kinds == ["deferred", "attempt_failed", "committed", "committed"]
        kept = [logged(entry) for entry in work.entries if entry.event.kind in kinds]
    assert kept == [
        [("info", "try 1, token=[redacted]")],
        [("info", "try 2, token=[redacted]"), ("warning", "no answer from search")],
        [("info", "try 3, token=[redacted]")],
        [],
    ]


def lines() -> StepLines:
    return StepLines(ManualClock())


def test_what_is_kept_is_the_end_and_bounded() -> None:
    kept = lines()
    for number in range(10_000):
        kept.add("info", f"line {number} " + "x" * 10_000)
    found = kept.kept()
    assert found[-1].text.startswith("line 9999 ")
    assert all(len(line.text) <= LINE_MAX_CHARS for line in found)
    assert sum(len(line.text) for line in found) <= KEPT_MAX_CHARS
    assert len(kept.kept(KEPT_COMMITTED_MAX_CHARS)) == KEPT_COMMITTED_MAX_CHARS // LINE_MAX_CHARS
    for number in range(10_000):
        kept.add("info", str(number))
    assert len(kept.kept()) == LINES_MAX
    kept.clear()
    assert kept.kept() == ()


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        return "Rude()"


@pytest.mark.parametrize(
    ("message", "args", "text"),
    [
        ("%d of %d", (1, 2), "1 of 2"),
        ("%d of %d", (1,), "%d of %d (1,)"),
        ("100 %", (), "100 %"),
        ("by %s", (Rude(),), "by %s (Rude(),)"),
        (Rude(), (), "Rude"),
        ("a\x1b[2Jb\ud800", (), "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_logging_fails_no_step(message: Any, args: tuple[Any, ...], text: str) -> None:
    kept = lines()
    logger = logging.getLogger("roost.engine.quiet")
    logger.setLevel(logging.CRITICAL)
    StepLogger(logger, {}, kept).info(message, *args)
    assert [line.text for line in kept.kept()] == [text]


def test_a_line_is_logged_as_from_where_it_was_written(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.steps")
    with caplog.at_level(logging.INFO, "test.steps"):
        StepLogger(logger, {"work_id": "w"}, lines()).info("hello %s", "there")
    [record] = caplog.records
    assert (record.getMessage(), record.filename) == ("hello there", "test_step_log.py")
    assert vars(record)["work_id"] == "w"


def test_the_last_line_shows_with_a_heartbeat_until_the_step_tells_of_its_progress() -> None:
    clock = ManualClock()
    parts = Parts(MemoryBackend(clock), clock, SystemIds(), CoreSettings())
    holder = Holder(parts, "worker", Delivery("w", 0, Lane.NORMAL, "r"))
    holder.lines.add("info", "page 1")
    assert not holder.has_progress  # no heartbeat comes for it
    assert holder.take_progress() == (0.0, "page 1")
    holder._report(0.5, "half")
    holder.lines.add("info", "page 2")
    assert holder.has_progress
    assert holder.take_progress() == (0.5, "half")
    holder._forget_progress()
    assert (holder.take_progress(), holder.lines.kept()) == (None, ())
