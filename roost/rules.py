"""Rules that start work: triggers (when other work ends) and schedules (when it is time).

Their settings, checked when they are read, and what they say of a given moment. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from roost.errors import IdentifierError
from roost.models import check_id, check_name
from roost.names import PRIORITY_MAX, State

if TYPE_CHECKING:
    from jmespath.parser import ParsedResult

SET_SIGNAL = "roost.schedule.set"  # its data are the fields of the `Schedule` to go on with
EXPRESSION_MAX_CHARS = 2000
RULE_NAME_PATTERN = r"^[A-Za-z0-9._-]{1,64}\Z"  # leaves room for a prefix and an instant in a work id
TICKS_MAX = 100  # missed ticks that one look goes through
TICK_GRACE_SECONDS = 60.0  # a tick that is taken up later than this was missed

RuleName = Annotated[str, Field(pattern=RULE_NAME_PATTERN)]


@lru_cache(maxsize=1000)
def _compiled(expression: str) -> ParsedResult:
    from jmespath import compile as compile_expression

    return compile_expression(expression)


def _check_expression(text: str) -> str:
    from jmespath.exceptions import JMESPathError

    if len(text) > EXPRESSION_MAX_CHARS:
        raise ValueError(f"an expression of {len(text)} characters is longer than {EXPRESSION_MAX_CHARS}")
    try:
        _compiled(text)
    except JMESPathError as error:
        raise ValueError(f"{text!r} is no JMESPath expression: {error}") from None
    return text


def _as_states(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _check_terminal(states: Sequence[State]) -> Sequence[State]:
    if not states or not all(state.is_terminal for state in states):
        raise ValueError("one or several of done, failed, cancelled")
    return states


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there, not a name, or a folder of names
        raise ValueError(f"there is no time zone {name!r}; one is called Europe/Berlin") from None
    return name


def _check_cron(line: str) -> str:
    from cronsim import CronSimError

    if len(line.split()) != 5:
        raise ValueError(f"a cron line has 5 fields (minute hour day month weekday), {line!r} has not")
    try:
        next_tick(line, "UTC", 0.0)
    except CronSimError as error:
        raise ValueError(f"{line!r} is no cron line: {error}") from None
    return line


def _check_engine(value: str) -> str:
    try:
        return check_id(value, "engine id")
    except IdentifierError as error:
        raise ValueError(f"{error}. {error.hint}") from None


def _check_resource(value: str) -> str:
    try:
        return check_name(value, "resource")
    except IdentifierError as error:
        raise ValueError(f"{error}. {error.hint}") from None


Expression = Annotated[str, AfterValidator(_check_expression)]
EndStates = Annotated[tuple[State, ...], BeforeValidator(_as_states), AfterValidator(_check_terminal)]
EngineName = Annotated[str, AfterValidator(_check_engine)]
ResourceName = Annotated[str, AfterValidator(_check_resource)]
Priority = Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
TimeZone = Annotated[str, AfterValidator(_check_timezone)]
CronLine = Annotated[str, AfterValidator(_check_cron)]


class Trigger(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """`[triggers.NAME]`: when work of one engine has ended, enqueue work of another.

    Expressions are JMESPath (jmespath.org), over `item` (`work_id`, `engine`, `payload`,
    `priority`, …), `snapshot` (`data`, `step`, `status`, `version`, `result`, `artifacts`,
    …; null if no step was committed), `state` and `error` (`type` and `message`, or null).

    Attributes:
        engine: of the work that ends.
        on: how it ends: `done`, `failed`, `cancelled`, or a list of these.
        when: only if this is true of it, as JMESPath sees it (null and empty are not).
        enqueue: the engine of the new work.
        payload: an expression for each field of the new work's payload.
        priority, resources: of the new work.
    """

    engine: EngineName
    on: EndStates = (State.DONE,)
    when: Expression | None = None
    enqueue: EngineName
    payload: dict[str, Expression] = Field(default_factory=dict)
    priority: Priority = 0
    resources: tuple[ResourceName, ...] = ()

    def payload_of(self, ended: Mapping[str, Any]) -> dict[str, Any] | None:
        """The payload of the work to enqueue; None if there is none to.

        Args:
            ended: what the expressions are over.

        Raises:
            ValueError: an expression does not fit what it was given.
        """
        from jmespath.exceptions import JMESPathError

        try:
            if self.when is not None and not _is_true(_compiled(self.when).search(ended)):
                return None
            return {field: _compiled(text).search(ended) for field, text in self.payload.items()}
        except JMESPathError as error:
            raise ValueError(str(error)) from None


def _is_true(value: Any) -> bool:
    """As JMESPath has it: false, null and what is empty is not; the number 0 is."""
    return bool(value) or (isinstance(value, int | float) and not isinstance(value, bool))


class Missed(StrEnum):
    """What becomes of ticks at whose time no worker was there."""

    ONCE = "once"
    SKIP = "skip"
    ALL = "all"


class Schedule(BaseModel, extra="forbid", frozen=True, defer_build=True):
    """`[schedules.NAME]`: enqueue work at the times of a cron line.

    Attributes:
        cron: minute, hour, day of the month, month, weekday. Where clocks are put forward
            or back, as Debian's cron does it: work at a fixed hour runs once that day.
        timezone: the zone whose clocks the line means.
        engine, payload, priority, resources: of the work.
        missed: of ticks that came more than a minute ago, enqueue the last `once`, `all`
            of them, or none (`skip`).
    """

    cron: CronLine
    timezone: TimeZone = "UTC"
    engine: EngineName
    payload: dict[str, Any] = Field(default_factory=dict)
    priority: Priority = 0
    resources: tuple[ResourceName, ...] = ()
    missed: Missed = Missed.ONCE

    def next_tick(self, after: float) -> float | None:
        """The first tick after an instant; None if there is none in the next decades."""
        return next_tick(self.cron, self.timezone, after)

    def due_ticks(self, first: float, now: float) -> tuple[list[float], float | None]:
        """Which ticks to enqueue work for, and the tick that comes next.

        Args:
            first: the tick to begin with.

        Returns:
            What `missed` leaves of the ticks from `first` to `now`, of at most `TICKS_MAX`
            of them; and the first tick after these, which may be over as well.
        """
        ticks: list[float] = []
        tick: float | None = first
        while tick is not None and tick <= now and len(ticks) < TICKS_MAX:
            ticks.append(tick)
            tick = self.next_tick(tick)
        has_more = tick is not None and tick <= now
        return _taken(ticks, now, self.missed, has_more), tick


def _taken(ticks: list[float], now: float, missed: Missed, has_more: bool) -> list[float]:
    """What is left of ticks that are over; `has_more` says that there are later ones, over as well."""
    if missed is Missed.ALL:
        return ticks
    on_time = [tick for tick in ticks if now - tick <= TICK_GRACE_SECONDS]
    if missed is Missed.SKIP or on_time:
        return on_time
    return [] if has_more else ticks[-1:]


def next_tick(cron: str, timezone: str, after: float) -> float | None:
    """The first tick of a cron line after an instant.

    Raises:
        CronSimError: it is no cron line.
    """
    from cronsim import CronSim

    local = datetime.fromtimestamp(after, UTC).astimezone(ZoneInfo(timezone))
    tick = next(CronSim(cron, local), None)
    return None if tick is None else tick.timestamp()
