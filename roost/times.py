"""Times in words, and from words."""

from __future__ import annotations

from datetime import UTC, datetime

from roost.errors import InputError

AHEAD_MAX_SECONDS = 366 * 10 * 86400.0  # a duration beyond it was meant to be an instant


def seconds(given: object, what: str) -> float:
    """Seconds of a duration such as `30`, `5m` or `1h30m`, or of a number of seconds.

    Raises:
        InputError: it is none; says what it was for.
    """
    from roost.config import parse_duration

    try:
        if isinstance(given, str) or (isinstance(given, int | float) and not isinstance(given, bool)):
            return float(parse_duration(given))  # type: ignore[arg-type]  # text that is no duration raises
    except (OverflowError, ValueError):
        pass
    raise InputError(f"{what}: {given!r:.80} is no duration", hint="Write seconds, or 30s, 5m, 1h30m, 2d.")


def instant(given: object, now: float, what: str) -> float:
    """Epoch seconds of an ISO 8601 instant, or of a duration from now.

    Raises:
        InputError: it is neither, or a duration of more than ten years.
    """
    hint = "Write how long from now, 30s or 2h, or an instant: 2030-01-31T12:00Z."
    try:
        parsed = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        parsed = None
    if parsed is None:
        try:
            ahead = seconds(given, what)
        except InputError:
            raise InputError(
                f"{what}: {given!r:.80} is neither a duration nor an instant", hint=hint
            ) from None
        if ahead > AHEAD_MAX_SECONDS:
            raise InputError(f"{what}: {given!r:.80} is more than ten years from now", hint=hint)
        return now + ahead
    try:
        return (parsed if parsed.tzinfo else parsed.astimezone()).timestamp()
    except (OverflowError, ValueError):  # local time at the ends of the calendar
        raise InputError(f"{what}: {given!r} is out of range", hint="Give an offset or Z with it.") from None


def span(duration: float) -> str:
    """A duration in words, two units at most."""
    left = abs(duration)
    if left < 0.9995:
        return f"{left * 1000:.0f} ms"
    if left < 9.95:
        return f"{left:.1f} s"
    parts, left = [], (left + 0.5) // 1  # a pause of 30 s is not 29 s, as 29.98 were
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
