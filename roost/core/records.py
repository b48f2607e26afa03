"""What `once` records, and how much of it: each entry of the step carries the keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roost import jsonio
from roost.errors import EngineContractError, PayloadError

RECORDS_MAX = 1000  # in one step
KEYS_MAX_BYTES = 1 << 16  # of one step, together


def check_room(once: Sequence[tuple[str, int]], key: str) -> None:
    """Raises EngineContractError: the step has too many recorded effects for one more."""
    keys = {known for known, _ in once} | {key}
    if len(keys) > RECORDS_MAX or sum(len(known.encode()) for known in keys) > KEYS_MAX_BYTES:
        raise EngineContractError(
            f"a step records more than {RECORDS_MAX} effects, or keys of more than {KEYS_MAX_BYTES} bytes",
            hint="Commit between them: each step has records of its own.",
        )


def dump(key: str, result: Any) -> bytes:
    """A result as it is stored.

    Raises:
        EngineContractError: it is no JSON, or too large; trying again would repeat the effect.
    """
    try:
        return jsonio.dump(result, what=f"the result of once({key!r})", max_bytes=jsonio.PAYLOAD_MAX_BYTES)
    except PayloadError as error:
        raise EngineContractError(str(error), hint=error.hint) from error
