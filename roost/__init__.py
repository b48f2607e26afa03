"""Roost keeps long-running agent workers alive, inspectable and resumable."""

from roost.engine import (
    ArtifactWriter,
    Engine,
    EngineRegistry,
    RetryPolicy,
    StepContext,
    current_step,
)
from roost.errors import FailWork, RetryLater, RoostError
from roost.models import Artifact, Snapshot, State, WorkItem

__all__ = [
    "Artifact",
    "ArtifactWriter",
    "Engine",
    "EngineRegistry",
    "FailWork",
    "RetryLater",
    "RetryPolicy",
    "RoostError",
    "Snapshot",
    "State",
    "StepContext",
    "WorkItem",
    "current_step",
]
