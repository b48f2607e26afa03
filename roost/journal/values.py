"""What events and control states are made of: errors, waits, families, turns."""

from __future__ import annotations

from msgspec import Struct


class ErrorInfo(Struct, frozen=True, omit_defaults=True):
    """What went wrong in a step; texts are cut and redacted before they get here."""

    type: str
    message: str
    traceback: str = ""


class LogLine(Struct, frozen=True, array_like=True):
    """What a step logged: when, how grave (`info`, `warning`, …), and the text, cut and redacted."""

    at: float
    level: str
    text: str


class Join(Struct, frozen=True, omit_defaults=True):
    """When work that waits for its children goes on: at the latest when all have ended.

    Attributes:
        need_done: it goes on once so many are done, or no longer can be.
        max_failed: it goes on once more than so many have ended otherwise than done.
        cancels_rest: children that are still open then are cancelled.
    """

    need_done: int | None = None
    max_failed: int | None = None
    cancels_rest: bool = True


class Wait(Struct, frozen=True, omit_defaults=True):
    """What work waits for: any one of these signals, or its children.

    Attributes:
        names: of signals.
        until: the instant at which it goes on without (None: never).
        fails: it fails then instead of going on.
        join: it waits for its children, too.
        seconds: how long it was to wait at most, from the commit on.
        is_typed: its commit has shapes of plain signals.
    """

    names: tuple[str, ...] = ()
    until: float | None = None
    fails: bool = False
    join: Join | None = None
    seconds: float | None = None
    is_typed: bool = False


class Parent(Struct, frozen=True, omit_defaults=True):
    """Who spawned a work item, and which of its children this is, counted from 0.

    `origin_at` is when the parent was enqueued: new work may have its id, once it was deleted.
    """

    work_id: str
    ordinal: int
    key: str = ""
    origin_at: float | None = None


class Fork(Struct, frozen=True, omit_defaults=True):
    """The committed version of another work item that this one began from, and why."""

    work_id: str
    version: int
    reason: str = ""


class Cause(Struct, frozen=True, omit_defaults=True):
    """The end of other work, and the trigger that made this of it; `depth` counts the triggers in a row.

    `origin_at` is when that work was enqueued, as in `Parent`.
    """

    work_id: str
    position: int
    trigger: str
    depth: int = 1
    origin_at: float | None = None


class Fire(Struct, frozen=True, omit_defaults=True):
    """Work to enqueue because this has ended: a trigger, as the settings had it when it ended.

    `when` and the values of `payload` are expressions, see `rules.Trigger`.
    """

    name: str
    enqueue: str
    when: str | None = None
    payload: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    resources: tuple[str, ...] = ()


class Turn(Struct, frozen=True, omit_defaults=True):
    """That a work item is of a conversation, and waits for its turn there.

    Attributes:
        conversation: the id of the conversation's own journal.
        asked_at: position of the entry, in the work's journal, that asked for the turn:
            its enqueueing, or an operator's retry.
        is_given: it has the turn.
    """

    conversation: str
    asked_at: int = 0
    is_given: bool = False


class Place(Struct, frozen=True, omit_defaults=True):
    """A place in the line of a conversation.

    Attributes:
        work_id, asked_at: whose it is, see `Turn`.
        position: of the entry, in the conversation's journal, that took it.
    """

    work_id: str
    asked_at: int
    position: int


class Bound(Struct, frozen=True, omit_defaults=True):
    """What an idempotency key stands for, until when, and the entry of its journal that says so."""

    work_id: str
    until: float
    position: int


class Family(Struct, frozen=True, omit_defaults=True):
    """The children of a work item; `journal/family.py` reads it.

    Attributes:
        batches: (version, count): how many children each commit spawned.
        ended: a bitmap of those that have ended, by ordinal, in hexadecimal digits.
        reported: positions of the reports that no committed step has seen; those of
            children that ended otherwise than done are negative.
        bound: a bitmap as `ended`, of those that end with their parent, however that ends.
    """

    batches: tuple[tuple[int, int], ...] = ()
    ended: str = ""
    reported: tuple[int, ...] = ()
    bound: str = ""


Amounts = tuple[tuple[str, float], ...]
"""Named amounts, by name: steps, attempts, seconds, and those that an engine reports itself."""
