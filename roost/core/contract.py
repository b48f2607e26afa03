"""What an engine may return, and the limits on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from roost import jsonio
from roost.errors import EngineContractError, InputError, PayloadError, RoostError
from roost.journal.values import ErrorInfo
from roost.models import Artifact, Child, Snapshot, WaitFor, WorkItem

DELAY_MAX_SECONDS = 10 * 366 * 86400.0  # ten years: beyond it a delay is a mistake
ARTIFACTS_MAX = 1000
HISTORY_MAX = 10_000
RESULT_MAX_BYTES = 1 << 14


def check_returned(returned: Any, version: int, item: WorkItem, stored: Sequence[Artifact]) -> Snapshot:
    """What an engine returned, as the snapshot of `version + 1`.

    Args:
        stored: what the step put into the artifact store; added to the snapshot.

    Raises:
        EngineContractError: the engine may not return this; says what and what would do.
    """
    if not isinstance(returned, Snapshot):
        raise EngineContractError(
            f"engine {item.engine!r} returned {type(returned).__name__}, not a Snapshot",
            hint="Return the snapshot that comes after the step.",
        )
    try:
        return _checked(returned, version, item, stored)
    except AttributeError as error:
        raise EngineContractError(
            f"engine {item.engine!r} returned {type(error.obj).__name__} without `{error.name}`",
            hint="`model_construct` checks nothing; use `Snapshot.of` and `next`.",
        ) from None


def _checked(returned: Snapshot, version: int, item: WorkItem, stored: Sequence[Artifact]) -> Snapshot:
    if returned.work_id != item.work_id or returned.engine != item.engine:
        raise EngineContractError(
            f"engine {item.engine!r} returned a snapshot of {returned.work_id!r} ({returned.engine!r}), "
            f"not of {item.work_id!r}"
        )
    allowed = (version, version + 1) if version >= 0 else (0, 1)
    if returned.version not in allowed:
        raise EngineContractError(
            f"engine {item.engine!r} returned version {returned.version} from version {version}",
            hint="Leave `version` alone; Roost counts it.",
        )
    _check_directives(returned)
    if stored:
        known = {(artifact.name, artifact.digest) for artifact in returned.artifacts}
        new = [artifact for artifact in stored if (artifact.name, artifact.digest) not in known]
        returned.artifacts = [*returned.artifacts, *new]
    return returned


_Number = (int, float)  # a union would be made anew at each look


def check_span(seconds: float, what: str, *, hint: str) -> None:
    """See that somebody may wait for so many seconds.

    Raises:
        InputError: they are less than 0, more than ten years, or no number.
    """
    if not 0 <= seconds <= DELAY_MAX_SECONDS:
        raise InputError(
            f"a {what} of {seconds:g} s is not within 0 and {DELAY_MAX_SECONDS:.0f} s", hint=hint
        )


def _is_span(seconds: object) -> bool:
    """Whether it is a number of seconds that work may sleep or wait."""
    if seconds is True or not isinstance(seconds, _Number):
        return False
    return 0 <= seconds <= DELAY_MAX_SECONDS


def _are_all(values: object, kind: type) -> bool:
    """Whether it is a list of such values."""
    return isinstance(values, list) and (not values or all(isinstance(value, kind) for value in values))


def _are_whole(values: object, kind: type[BaseModel]) -> bool:
    """Whether it is a list of such values that lack nothing, as one made by `model_construct` may."""
    if not values or not _are_all(values, kind):
        return values == []
    fields = kind.model_fields.keys()
    return all(fields <= value.__dict__.keys() for value in values)  # type: ignore[attr-defined]


def _check_directives(snapshot: Snapshot) -> None:
    faults = []
    delay = snapshot.next_step_delay_seconds
    if not _is_span(delay):
        faults.append(f"next_step_delay_seconds is {delay!r}, not 0 to {DELAY_MAX_SECONDS:.0f}")
    if not isinstance(snapshot.data, dict):
        faults.append(f"data is a {type(snapshot.data).__name__}, not a dict")
    for name, value in (("step", snapshot.step), ("status", snapshot.status)):
        if not isinstance(value, str) or not 0 < len(value) <= 200:
            faults.append(f"{name} is {value!r:.100}, not text of 1 to 200 characters")
    artifacts = snapshot.artifacts
    if not _are_whole(artifacts, Artifact):
        faults.append("artifacts is not a list of Artifact")
    elif len(artifacts) > ARTIFACTS_MAX:
        faults.append(f"artifacts has {len(artifacts)} entries, more than {ARTIFACTS_MAX}")
    history = snapshot.history
    if not _are_all(history, str) or len(history) > HISTORY_MAX:
        faults.append(f"history is not a list of at most {HISTORY_MAX} texts")
    if not isinstance(snapshot.is_finished, bool):
        faults.append(f"is_finished is {snapshot.is_finished!r}, not True or False")
    faults += _faults_in_follow_ups(snapshot)
    if faults:
        raise EngineContractError(f"engine {snapshot.engine!r} returned a snapshot whose {'; '.join(faults)}")


def _faults_in_follow_ups(snapshot: Snapshot) -> list[str]:
    faults = []
    wait_for = snapshot.wait_for
    if wait_for is not None and not isinstance(wait_for, WaitFor):
        faults.append(f"wait_for is a {type(wait_for).__name__}, not a WaitFor")
    elif wait_for is not None and not _is_span(timeout := wait_for.timeout_seconds or 0.0):
        faults.append(f"wait_for.timeout_seconds is {timeout!r}, not 0 to {DELAY_MAX_SECONDS:.0f}")
    if not _are_whole(snapshot.spawn, Child):
        faults.append("spawn is not a list of Child")
    if snapshot.result is not None:
        try:
            jsonio.dump(snapshot.result, what="result", max_bytes=RESULT_MAX_BYTES)
        except PayloadError as error:
            faults.append(f"{error}")
    return faults


def describe_contract(error: RoostError) -> ErrorInfo:
    """The error text of a snapshot that can't be stored, with its hint."""
    return ErrorInfo("EngineContractError", f"{error}. {error.hint}" if error.hint else str(error))
