"""The picture of a journal: who held a work item when, what came of it, and the gaps.

Pure: entries in, bars out. Places are shares of the width in percent. Time in which nobody
works on the item is drawn shorter where it would leave no room for the steps; it says how long
it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from roost import times
from roost.journal.entries import Control, Entry
from roost.journal.events import AttemptFailed, Blocked, Claimed, Committed, Deferred, Evicted, Released
from roost.journal.projection import waited_for
from roost.models import State

NOBODY = ""
LANES_MAX = 6
IDLE_SHARE = 0.25  # of the width, at most, for one gap
_TICKS = 6

Shade = Literal["ok", "bad", "run", "silent", "sched", "wait", "que"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of time in a lane.

    Attributes:
        lane: the worker; empty: nobody held it.
        shade: what came of it.
        title: says it in words.
        label: shown in it where it is wide enough.
        x, width: in percent.
    """

    lane: str
    shade: Shade
    start_at: float
    end_at: float
    title: str
    label: str = ""
    x: float = 0.0
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A time on the axis; `digits` of a second tell it from the one before."""

    x: float
    at: float
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it.

    Attributes:
        lanes: workers from top to bottom, in the order of their first claim; nobody last.
        takeovers: where one worker took over from another that went silent, in percent.
    """

    lanes: Sequence[str]
    bars: Sequence[Bar]
    ticks: Sequence[Tick]
    takeovers: Sequence[float]
    commits: int
    failures: int
    is_running: bool


@dataclass(slots=True)
class _Pen:
    """Where the drawing stands."""

    mark: float
    holder: str = NOBODY
    idle: tuple[Shade, str] = ("que", "queued")
    bars: list[Bar] = field(default_factory=list)
    takeovers: list[float] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)

    def draw(self, shade: Shade, until: float, title: str, label: str = "") -> None:
        """A bar from the mark to an instant; clocks that go back draw none."""
        end = max(until, self.mark)
        self.bars.append(Bar(self.holder, shade, self.mark, end, title, label))
        self.mark = end

    def leave(self, control: Control) -> None:
        """Nobody holds it from here on, for the reason that its state gives."""
        self.holder = NOBODY
        what = waited_for(control.waits) if control.waits else "nothing"
        if control.over:
            self.idle = ("wait", "parked by its budget")
            return
        self.idle = {
            State.SCHEDULED: ("sched", "delay"),
            State.WAITING: ("wait", f"waits for {what}"),
            State.BLOCKED: ("wait", "waits for a resource"),
        }.get(control.state, ("que", "queued"))  # type: ignore[assignment]  # the literals above are shades


def draw(entries: Sequence[Entry], now: float, *, lease_until: float | None = None) -> Picture | None:
    """The picture of entries, oldest first; None if there is nothing to draw.

    Args:
        now: where work that has not ended reaches to.
        lease_until: when the lease ends, as last renewed; heartbeats are in no journal.
    """
    if not entries:
        return None
    first = entries[0]
    pen = _Pen(first.at)
    lease = first.control.lease
    if lease is not None:
        pen.holder = lease.worker_id
        pen.workers.append(lease.worker_id)
    else:
        pen.leave(first.control)
    for entry in entries[1:]:
        _add(pen, entry)
    last = entries[-1].control
    if not last.state.is_terminal:
        _add_present(pen, last, now, lease_until)
    return _place(pen, is_running=last.lease is not None)


def _add(pen: _Pen, entry: Entry) -> None:
    """One entry: what stood before it is a bar up to it."""
    event, at = entry.event, entry.at
    if isinstance(event, Claimed):
        _claim(pen, event, at)
        return
    if pen.holder == NOBODY:
        if entry.control.state.is_terminal:
            pen.draw(*_idle(pen, at))
        return
    took = times.span(max(at - pen.mark, 0.0))
    match event:
        case Committed():
            pen.draw("ok", at, f"version {event.version}, {event.step}: {took}", f"v{event.version}")
        case AttemptFailed():
            pen.draw("bad", at, f"failed after {took}: {event.error.type}")
        case Evicted():
            pen.draw("silent", at, f"{event.worker_id} went silent")
        case Deferred() | Released() | Blocked():
            pen.draw("que", at, f"given back after {took}")
        case _ if entry.control.lease is None:
            pen.draw("bad" if entry.control.state is State.FAILED else "que", at, f"{event.kind}: {took}")
    if entry.control.lease is None:
        pen.leave(entry.control)


def _claim(pen: _Pen, event: Claimed, at: float) -> None:
    if pen.holder == NOBODY:
        if at > pen.mark:
            pen.draw(*_idle(pen, at))
    else:
        pen.draw("silent", at, f"{pen.holder} went silent; its lease ran out")
    if pen.bars and pen.bars[-1].shade == "silent" and pen.bars[-1].lane != event.worker_id:
        pen.takeovers.append(at)
    pen.holder = event.worker_id
    if event.worker_id not in pen.workers:
        pen.workers.append(event.worker_id)


def _idle(pen: _Pen, until: float) -> tuple[Shade, float, str, str]:
    shade, what = pen.idle
    took = times.span(max(until - pen.mark, 0.0))
    return shade, until, f"{what}: {took}", f"{what} {took}"


def _add_present(pen: _Pen, control: Control, now: float, lease_until: float | None) -> None:
    if control.lease is None:
        pen.draw(*_idle(pen, now))
    elif max(control.lease.until, lease_until or 0.0) < now:
        pen.draw("silent", now, f"{pen.holder} went silent; its lease is over")
    else:
        pen.draw("run", now, f"running for {times.span(max(now - pen.mark, 0.0))}")


def _place(pen: _Pen, *, is_running: bool) -> Picture:
    """Give each bar its place: in proportion to time, but for long gaps."""
    held = sum(bar.end_at - bar.start_at for bar in pen.bars if not _is_empty(bar))
    gap_max = held / (1 - IDLE_SHARE) * IDLE_SHARE if held else float("inf")
    weights = [
        min(bar.end_at - bar.start_at, gap_max) if _is_empty(bar) else bar.end_at - bar.start_at
        for bar in pen.bars
    ]
    total = sum(weights) or 1.0
    x = 0.0
    placed: list[Bar] = []
    for bar, weight in zip(pen.bars, weights, strict=True):
        width = 100.0 * weight / total
        label = next((text for text in _labels(bar) if width > 0.7 * len(text) + 1), "")
        placed.append(
            Bar(bar.lane, bar.shade, bar.start_at, bar.end_at, bar.title, label, round(x, 3), round(width, 3))
        )
        x += width
    return Picture(
        lanes=_lanes(pen),
        bars=placed,
        ticks=_ticks(placed),
        takeovers=[where for at in pen.takeovers if (where := _x(placed, at)) is not None],
        commits=sum(bar.shade == "ok" for bar in placed),
        failures=sum(bar.shade in ("bad", "silent") for bar in placed),
        is_running=is_running,
    )


def _is_empty(bar: Bar) -> bool:
    """Whether nothing was done in this stretch."""
    return bar.lane == NOBODY or bar.shade == "silent"


def _labels(bar: Bar) -> list[str]:
    """What could stand in a bar, the longest first."""
    return [bar.label, bar.label.partition(" ")[0]]


def _lanes(pen: _Pen) -> list[str]:
    """The last few workers, and nobody where there is a gap."""
    lanes = pen.workers[-LANES_MAX:]
    return [*lanes, NOBODY] if any(bar.lane == NOBODY for bar in pen.bars) else lanes


def _ticks(bars: Sequence[Bar]) -> list[Tick]:
    """Times at even places; with tenths or thousandths where two would read alike."""
    ticks = [tick for n in range(_TICKS) if (tick := _tick(bars, 100.0 * n / _TICKS)) is not None]
    for digits in (0, 1, 3):
        told = [int(tick.at * 10**digits) for tick in ticks]
        if len(set(told)) == len(told):
            break
    return [replace(tick, digits=digits) for tick in ticks]


def _tick(bars: Sequence[Bar], x: float) -> Tick | None:
    """The instant at a place."""
    for bar in bars:
        if bar.width and bar.x <= x <= bar.x + bar.width:
            share = (x - bar.x) / bar.width
            return Tick(round(x, 3), bar.start_at + share * (bar.end_at - bar.start_at))
    return None


def _x(bars: Sequence[Bar], at: float) -> float | None:
    return next((bar.x for bar in bars if bar.start_at == at), None)
