"""Every exception that Roost raises on purpose.

    RoostError
    ├── InputError                 what a caller gave can't be taken
    │   ├── PayloadError           not the JSON that Roost stores
    │   ├── IdentifierError        a work id, engine id, resource or key out of bounds
    │   └── SettingsError          a setting is wrong; names where it came from
    ├── EngineNotFound             no installed engine of that name
    ├── EngineContractError        an engine broke the contract of `Engine`
    ├── WorkNotFound               no such work item (never existed, or expired)
    ├── ConflictError              the request collides with what already stands
    │   ├── EnqueueConflict        same id or idempotency key, other content
    │   ├── ConversationBusy       earlier work of the conversation has not ended
    │   └── LeaseLost              this worker no longer holds the work item
    ├── AccessDenied               the console does not let the caller do it
    ├── StorageError               the backend failed
    │   ├── StorageUnavailable     try again later: locked, throttled, unreachable
    │   ├── StorageMissing         no such table, queue or bucket
    │   ├── StorageDenied          no right to it
    │   ├── StorageFull            no room on the disk
    │   ├── StorageReadOnly        the place can't be written
    │   ├── SchemaTooNew           written by a newer Roost
    │   └── StorageCorrupt         stored bytes are not what was written
    ├── ArtifactNotFound           no blob with that digest
    ├── OutcomeUnknown             an effect began, and nobody knows whether it was done
    ├── WorkspaceError             git could not make, keep or restore a workspace
    └── StepSignal                 raised by an engine inside a step
        ├── RetryLater             not now: try this step again later
        └── FailWork               never: dead-letter the work item

`str(error)` says what was wrong and where; `error.hint` says what to do.
"""

from __future__ import annotations


class RoostError(Exception):
    """Base of all errors of Roost.

    Attributes:
        hint: what the reader can do about it; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputError(RoostError):
    """What a caller gave can't be taken; nothing was stored."""


class PayloadError(InputError):
    """A payload or snapshot is not the JSON that Roost stores."""


class IdentifierError(InputError):
    """A work id, engine id, resource or key breaks its rule."""


class SettingsError(InputError):
    """A setting is wrong; the message names the file, variable or option."""


class EngineNotFound(RoostError):
    """No engine of that name is installed here."""


class EngineContractError(RoostError):
    """An engine returned something that the contract does not allow."""


class WorkNotFound(RoostError):
    """There is no such work item.

    Attributes:
        work_id: the id that was asked for.
    """

    def __init__(self, work_id: str) -> None:
        super().__init__(
            f"no work item {work_id!r}",
            hint="It never existed here, or its retention time is over. `roost list` shows what is there.",
        )
        self.work_id = work_id


class ConflictError(RoostError):
    """The request collides with what already stands."""


class EnqueueConflict(ConflictError):
    """The id or idempotency key is taken by a work item with other content.

    Attributes:
        work_id: the work item that stands.
    """

    def __init__(self, work_id: str, message: str) -> None:
        super().__init__(message, hint=f"`roost status {work_id}` shows the one that stands.")
        self.work_id = work_id


class ConversationBusy(ConflictError):
    """Earlier work of the conversation has not ended, and the new one can't wait for it.

    Attributes:
        work_id: the work item that has the turn.
    """

    def __init__(self, work_id: str, why: str) -> None:
        super().__init__(
            f"the conversation is busy: {work_id} {why}",
            hint="Wait for it, or enqueue with --if-busy queue, interrupt or fork.",
        )
        self.work_id = work_id


class LeaseLost(ConflictError):
    """This worker no longer holds the work item; what it was about to write was refused.

    Attributes:
        work_id: the work item.
        token: the fencing token that is no longer current.
    """

    def __init__(self, work_id: str, token: int, by: str) -> None:
        super().__init__(f"lease {token} on {work_id} is lost: {by}")
        self.work_id = work_id
        self.token = token
        self.by = by


class AccessDenied(RoostError):
    """The console does not know the caller, or their role may not do it."""


class StorageError(RoostError):
    """The storage backend failed."""


class StorageUnavailable(StorageError):
    """The backend can't answer now; the same call may succeed later."""


class StorageMissing(StorageError):
    """A part of the backend is not there: it was never made, has another name, or is gone."""


class StorageDenied(StorageError):
    """The rights of this program do not reach what it asked for."""


class StorageFull(StorageError):
    """The backend has no room left; what was acknowledged before is kept."""


class StorageReadOnly(StorageError):
    """The place of the backend can't be written."""


class SchemaTooNew(StorageError):
    """What is stored was written by a newer Roost than this one."""


class StorageCorrupt(StorageError):
    """Stored bytes are not the bytes that were written."""


UNREADABLE = (StorageCorrupt, SchemaTooNew)
"""What is wrong with one work item: to try again is no help, and no other work is any the worse for it."""


class ArtifactNotFound(RoostError):
    """No blob with that digest is stored."""


class WorkspaceError(RoostError):
    """A workspace could not be made, kept, restored or removed; the step is tried again."""


class OutcomeUnknown(RoostError):
    """An effect that is to happen at most once began before, and no result was recorded.

    Its worker died in it, or it failed. Catch it, ask the service, and go on; a step that
    does not catch it fails the work, since trying again can't help.

    Attributes:
        key: of the effect.
    """

    def __init__(self, key: str) -> None:
        super().__init__(
            f"effect {key!r} began before, and nobody knows whether it was done",
            hint="Ask the service whether it was done, by the idempotency key.",
        )
        self.key = key


class StepSignal(RoostError):
    """Base of what an engine raises inside a step to steer its work item."""


class RetryLater(StepSignal):
    """Raised in a step: try the same step again later.

    It is not a failed attempt and burns none. Between two commits the first three may be for no
    time at all; from then on the pause is at least 0.1 s, doubled each time, up to a second.

    Args:
        after: seconds until the next try; less than 0 is 0.
        reason: kept in the history, cut at 500 characters.
    """

    def __init__(self, after: float, reason: str = "") -> None:
        super().__init__(reason or f"retry in {after} s")
        self.after_seconds: float = max(0.0, float(after))
        self.reason = reason


class FailWork(StepSignal):
    """Raised in a step: this work item can never succeed; dead-letter it now.

    Args:
        reason: kept in the history, cut at 500 characters.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
