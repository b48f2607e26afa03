"""What each role may do: the one table of it, which pages, API and its document all ask.

The rule: a viewer looks. An operator acts on work that they name, in ways that somebody can come
back from. An admin does what touches the work of all, what says how much may be used, and what
can't be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from roost.names import OPERATION_ENGINE, OWN_ENGINES


class Role(StrEnum):
    """Who somebody is to the console; each may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether it may do what the other may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Deed(StrEnum):
    """What can be done with the console, by what it takes."""

    LOOK = "look"
    ENQUEUE = "enqueue"
    ACT = "act"
    ANSWER = "answer"
    SEND_AGAIN = "send_again"
    DROP = "drop"
    DROP_MESSAGES = "drop_messages"
    EVICT = "evict"
    LIMIT = "limit"
    BUDGET = "budget"
    SWITCH = "switch"
    OWN_WORK = "own_work"
    UNCOUNTED = "uncounted"


TABLE: Mapping[Role, Mapping[Deed, str]] = {
    Role.VIEWER: {Deed.LOOK: "look at all pages, but for the tokens of approvals"},
    Role.OPERATOR: {
        Deed.ENQUEUE: "enqueue work",
        Deed.ACT: "signal, cancel, pause, resume, retry and fork work, one or many",
        Deed.ANSWER: "see the tokens of approvals, and answer them",
        Deed.SEND_AGAIN: "send messages again that the queue set aside",
    },
    Role.ADMIN: {
        Deed.DROP: "drop work with its history",
        Deed.DROP_MESSAGES: "drop messages that the queue set aside, and end those that name no work",
        Deed.EVICT: "take a resource away from who holds it",
        Deed.LIMIT: "set the limits of resources, close and open them",
        Deed.BUDGET: "set budgets: of work, of a family, of a day",
        Deed.SWITCH: "pause and resume engines and lanes, drain workers",
        Deed.OWN_WORK: "change Roost's own work: schedules, and operations but for holding and ending them",
        Deed.UNCOUNTED: "act on more work at once than is counted before",
    },
}
"""Which role may do what, in words that follow `may`; each may do what those before it may, too."""

NEEDS: Mapping[Deed, Role] = {deed: role for role, deeds in TABLE.items() for deed in deeds}
"""Which role each deed needs."""

WORDS: Mapping[Deed, str] = {deed: text for deeds in TABLE.values() for deed, text in deeds.items()}
"""Each deed, as it follows `may`."""

_HOLDING = ("pause", "resume", "cancel")


def lacks(role: Role | None, deed: Deed) -> Role | None:
    """The role that somebody would need for a deed; None: they may do it."""
    needed = NEEDS[deed]
    return None if role is not None and role.covers(needed) else needed


def on_work(engine: str, verb: str) -> Deed | None:
    """What it takes to act on work of an engine, beside what the act takes itself.

    Operations can be held and ended by whoever can begin them; all else on Roost's own work
    would be a way round this table: new work for `roost.operation` drops what its payload says.
    """
    if not engine.startswith(OWN_ENGINES):
        return None
    return None if engine == OPERATION_ENGINE and verb in _HOLDING else Deed.OWN_WORK
