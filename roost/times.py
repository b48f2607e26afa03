"""Times in words, and from words."""

from __future__ import annotations

from datetime import UTC, datetime

from roost.errors import InputError


def seconds(text: str, what: str) -> float:
    """Seconds of a duration such as `30`, `5m` or `1h30m`.

    Raises:
        InputError: it is none; says what it was for.
    """
    from roost.config import parse_duration

    try:
        return float(parse_duration(text))  # type: ignore[arg-type]  # text that is no duration raises
    except (TypeError, ValueError):
        raise InputError(
            f"{what}: {text!r} is no duration", hint="Write seconds, or 30s, 5m, 1h30m, 2d."
        ) from None


def instant(text: str, now: float, what: str) -> float:
    """Epoch seconds of an ISO 8601 instant, or of a duration from now.

    Raises:
        InputError: it is neither.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return now + seconds(text, what)
    try:
        return (parsed if parsed.tzinfo else parsed.astimezone()).timestamp()
    except (OverflowError, ValueError):  # local time at the ends of the calendar
        raise InputError(f"{what}: {text!r} is out of range", hint="Give an offset or Z with it.") from None


def span(duration: float) -> str:
    """A duration in words, two units at most."""
    left = abs(duration)
    if left < 1:
        return f"{left * 1000:.0f} ms"
    if left < 10:
        return f"{left:.1f} s"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count:.0f} {unit}")
    return " ".join(parts[:2])


def relative(at: float, now: float) -> str:
    """`in 5 m` or `3 s ago`."""
    return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"


def clock(at: float) -> str:
    """An instant in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
