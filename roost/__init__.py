"""Roost keeps long-running agent workers alive, inspectable and resumable."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roost.engine import (
        ArtifactWriter,
        Engine,
        EngineRegistry,
        RetryPolicy,
        StepContext,
        current_step,
    )
    from roost.errors import FailWork, OutcomeUnknown, RetryLater, RoostError
    from roost.models import (
        Approval,
        Artifact,
        Child,
        ChildResult,
        Join,
        OnTimeout,
        Signal,
        Snapshot,
        WaitFor,
        WorkItem,
    )
    from roost.names import State
    from roost.typed import Finish, Go, TypedEngine

__all__ = [
    "Approval",
    "Artifact",
    "ArtifactWriter",
    "Child",
    "ChildResult",
    "Engine",
    "EngineRegistry",
    "FailWork",
    "Finish",
    "Go",
    "Join",
    "OnTimeout",
    "OutcomeUnknown",
    "RetryLater",
    "RetryPolicy",
    "RoostError",
    "Signal",
    "Snapshot",
    "State",
    "StepContext",
    "TypedEngine",
    "WaitFor",
    "WorkItem",
    "current_step",
]

_HOMES = {
    "Approval": "roost.models",
    "Artifact": "roost.models",
    "Child": "roost.models",
    "ChildResult": "roost.models",
    "FailWork": "roost.errors",
    "Finish": "roost.typed",
    "Go": "roost.typed",
    "Join": "roost.models",
    "OnTimeout": "roost.models",
    "OutcomeUnknown": "roost.errors",
    "RetryLater": "roost.errors",
    "RoostError": "roost.errors",
    "Signal": "roost.models",
    "Snapshot": "roost.models",
    "State": "roost.names",
    "TypedEngine": "roost.typed",
    "WaitFor": "roost.models",
    "WorkItem": "roost.models",
}


def __getattr__(name: str) -> object:
    """A public name, imported when it is first used: a command that needs none of them starts faster."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES.get(name, "roost.engine")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
