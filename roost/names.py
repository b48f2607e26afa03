"""The words of Roost: ids, names, namespaces, and the states and lanes of work.

Nothing here needs pydantic, so a command that only prints its help starts fast.
"""

from __future__ import annotations

import re
from enum import StrEnum

from roost.errors import IdentifierError

ID_MAX_CHARS = 128
ID_PATTERN = re.compile(rf"[A-Za-z0-9._:-]{{1,{ID_MAX_CHARS}}}")
NAMESPACE_PATTERN = re.compile(r"[a-z0-9-]{1,63}")
APPROVAL_MARK = "approval:"  # begins the names of signals that answer approvals
SCHEDULE_ENGINE = "roost.schedule"
OWN_ENGINES = "roost."  # how the ids of the built-in engines of operations and schedules begin
OPERATION_ENGINE = "roost.operation"
NAMESPACE_MARK = "/"  # no id or namespace has it, so a work id can't be read two ways
OPERATORS = "roost-operators"  # namespace of the journals of what operators did, one a namespace and month
NAME_MAX_BYTES = 1024  # resources, idempotency keys, artifact names
RESOURCES_MAX = 32  # resources of one work item
REASON_MAX_CHARS = 500
PRIORITY_MAX = 1000  # and as far below 0; it is the sign that counts
_PASSWORD = re.compile(r"(://[^/@\s:]*:)[^/@\s]*@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def check_id(value: str, what: str = "id") -> str:
    """Return `value` if it is a well-formed work or engine id.

    Raises:
        IdentifierError: it is not 1 to 128 of the characters A-Z a-z 0-9 . _ : -
    """
    if not ID_PATTERN.fullmatch(value):
        raise IdentifierError(
            f"{what} {value[:80]!r} is not well-formed",
            hint="Use 1 to 128 of the characters A-Z a-z 0-9 . _ : -",
        )
    return value


def check_namespace(value: str) -> str:
    """Return `value` if it is a well-formed namespace, or empty: the default one.

    Raises:
        IdentifierError: it is not 1 to 63 of the characters a-z 0-9 -
    """
    if value and not NAMESPACE_PATTERN.fullmatch(value):
        raise IdentifierError(
            f"namespace {value[:80]!r} is not well-formed", hint="Use 1 to 63 of the characters a-z 0-9 -"
        )
    return value


def check_work_id(value: str) -> str:
    """Return `value` if it is a well-formed work id: `ID`, or `NAMESPACE/ID`.

    Raises:
        IdentifierError: it is neither.
    """
    namespace, mark, plain = value.rpartition(NAMESPACE_MARK)
    if mark and not NAMESPACE_PATTERN.fullmatch(namespace):
        raise IdentifierError(f"work id {value[:80]!r} is not well-formed", hint="Write ID, or NAMESPACE/ID.")
    check_id(plain, "work id")
    return value


def namespace_of(work_id: str) -> str:
    """The namespace of a work id; empty is the default one."""
    return work_id.rpartition(NAMESPACE_MARK)[0]


def feeds(work_id: str, namespace: str) -> bool:
    """Whether the entries of a journal are among the events of a namespace: its own, and what
    operators did in it."""
    return namespace_of(work_id) == namespace or work_id.startswith(operators_prefix(namespace))


def operators_prefix(namespace: str) -> str:
    """What the ids of the journals of operators in a namespace begin with; no namespace has a colon."""
    return f"{OPERATORS}{NAMESPACE_MARK}{namespace}:"


def check_name(value: str, what: str = "name") -> str:
    """Return `value` if it can name a resource, key or artifact: free text up to 1 kB.

    Raises:
        IdentifierError: it is empty, too long, or has control characters.
    """
    if _CONTROL.search(value):
        raise IdentifierError(f"{what} {value[:80]!r} has control characters", hint="Leave them out.")
    if not value or len(value.encode()) > NAME_MAX_BYTES:
        raise IdentifierError(
            f"{what} has {len(value.encode())} bytes",
            hint=f"Use 1 to {NAME_MAX_BYTES} bytes.",
        )
    return value


def without_password(url: str) -> str:
    """A storage's URL as it may be shown."""
    return _PASSWORD.sub(r"\1***@", url)


class State(StrEnum):
    """Where a work item is. `journal/control.py` says how it moves between them."""

    QUEUED = "queued"
    RUNNING = "running"
    SCHEDULED = "scheduled"
    WAITING = "waiting"
    BLOCKED = "blocked"
    PAUSED = "paused"
    """Only lists show it: the state underneath is kept, and goes on where it was."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether only an operator's retry leads out of this state."""
        return self in _TERMINAL


_TERMINAL = frozenset({State.DONE, State.FAILED, State.CANCELLED})


class Order(StrEnum):
    """Which work a list begins with.

    Of all that matches, where the backend's index serves the order: `memory` and `local` serve each.
    On DynamoDB work comes so by when it was enqueued, and by when somebody looks at it next; by the
    others its newest `SCAN_MAX` work items are sorted (`core/finding.py`), and the answer says
    whether that was all.
    """

    NEWEST = "newest"
    OLDEST = "oldest"
    DUE = "due"
    """What is to be looked at soonest: what goes on, times out, or whose lease ends. Work that
    waits for somebody outside without an end, and most that has ended, is not in it."""
    UPDATED = "updated"
    """What changed last."""
    SINCE = "since"
    """What has been longest in its state."""
    FAILURES = "failures"
    """Where the most attempts at the step failed."""


class IfBusy(StrEnum):
    """What an enqueue does while earlier work of its conversation has not ended.

    Attributes:
        REJECT: nothing is enqueued; an error says so.
        QUEUE: the new work runs when all that came before it has ended.
        INTERRUPT: the same, and all that came before it is cancelled, a running step too.
        FORK: the same, and the new work begins with the last snapshot that the running one
            had committed when the new one was enqueued; what it does after that is left behind.
    """

    REJECT = "reject"
    QUEUE = "queue"
    INTERRUPT = "interrupt"
    FORK = "fork"


class Lane(StrEnum):
    """Priority lanes of the work queue."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @classmethod
    def of(cls, priority: int) -> Lane:
        """The lane of a priority: above 0 high, 0 normal, below 0 low."""
        return _LANES[(priority > 0) - (priority < 0)]


_LANES = {1: Lane.HIGH, 0: Lane.NORMAL, -1: Lane.LOW}


class Scope(StrEnum):
    """For how long a work item holds its resources once it has them."""

    STEP = "step"
    """While a worker works on it: given up whenever it sleeps, waits or is blocked."""

    WORK = "work"
    """Until it ends, over sleeps, waits and pauses."""
