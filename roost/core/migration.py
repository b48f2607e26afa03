"""Snapshots of earlier engine versions, made ones that this version goes on from.

What `migrate` returns is not committed by itself: the step runs on it, and its commit says
which version made the snapshot. A step that fails has it migrated again.
"""

from __future__ import annotations

import inspect

from roost.core.attempt import Limits, Outcome, Refused, Returned, Stepped, run_method
from roost.core.contract import describe_contract
from roost.engine import EngineSpec
from roost.errors import EngineContractError
from roost.models import Snapshot


def is_needed(spec: EngineSpec, snapshot: Snapshot) -> bool:
    """Whether `snapshot` is of another version, and the engine migrates."""
    return spec.migrate is not None and snapshot.engine_version != spec.engine_version


async def migrate(spec: EngineSpec, snapshot: Snapshot, limits: Limits) -> Outcome:
    """Run `migrate` once, under the limits of a step; `Stepped` holds what the step begins from."""
    assert spec.migrate is not None
    work_id, version, was = snapshot.work_id, snapshot.version, snapshot.engine_version
    came = await run_method(limits, spec.migrate, inspect.iscoroutinefunction(spec.migrate), snapshot)
    if not isinstance(came, Returned):
        return came
    found = came.value
    if not isinstance(found, Snapshot) or (found.work_id, found.version) != (work_id, version):
        what = "another work item or version" if isinstance(found, Snapshot) else type(found).__name__
        return Refused(
            describe_contract(
                EngineContractError(
                    f"`migrate` of engine {spec.name!r} returned {what} for a snapshot of version {was!r}",
                    hint="Return the snapshot that was given, with other data.",
                )
            )
        )
    return Stepped(found.model_copy(update={"engine_version": spec.engine_version}))
