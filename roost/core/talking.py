"""The part of a client that talks to work: signals and approvals; and that shows its family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from roost.core import replies
from roost.core.approvals import OpenApproval, answer, open_approvals
from roost.core.kin import TREE_MAX, Kin
from roost.core.kin import tree as read_tree
from roost.core.operations import Operations
from roost.core.signals import Received, Sent, read_all, send
from roost.engine import EngineRegistry
from roost.errors import IdentifierError, InputError
from roost.journal.entries import Entry
from roost.names import APPROVAL_MARK, check_name, namespace_of


class Talking(Operations):
    """Signals, approvals and families."""

    _engines: EngineRegistry | None

    async def signal(
        self, work_id: str, name: str, data: Any = None, *, signal_id: str | None = None
    ) -> Sent:
        """Tell a work item something; durable on return, seen by exactly one committed step.

        Where the engine gave it a shape (`signal_models`), the data is checked before anything is
        stored: while work waits for it, and always where the engine is installed.

        Args:
            data: JSON of at most 256 KiB.
            signal_id: the same signal sent again under it is one; by default unique.

        Raises:
            InputError: name, id or data can't be taken; names each field that does not fit.
            WorkNotFound: there is no such work item.
            ConflictError: it has ended, or has too many signals that no step has seen.
        """
        if name.startswith(APPROVAL_MARK):
            raise InputError(
                f"signal {name!r} answers an approval, which needs its token",
                hint="Use `roost approve TOKEN`.",
            )

        async def check(tail: Entry) -> None:
            shape = self._declared(tail, name) or await replies.of_signal(self._parts, tail, name)
            if shape:
                replies.check(shape, data, f"signal {name!r}")

        return await send(
            self._parts,
            self._whole(work_id),
            name,
            data,
            signal_id=signal_id,
            actor=self._actor,
            check=check,
        )

    def _declared(self, tail: Entry, name: str) -> Mapping[str, Any] | None:
        """The shape that the engine gives a signal, where that engine is installed."""
        spec = self._engines.get(tail.control.engine) if self._engines else None
        return None if spec is None else spec.signal_shapes.get(name)

    async def signals(self, work_id: str) -> Sequence[Received]:
        """All signals of a work item in order, with the version of the step that saw each.

        Raises:
            WorkNotFound: there is none of that id.
        """
        return await read_all(self._parts, self._whole(work_id))

    async def approvals(self, work_id: str) -> Sequence[OpenApproval]:
        """The approvals of a work item that can be answered now, with their tokens.

        Raises:
            WorkNotFound: there is none of that id.
            SettingsError: there is no secret to sign tokens with.
        """
        return await open_approvals(self._parts, await self._tail(self._whole(work_id)))

    async def approve(self, token: str, data: Any = None, actor: str | None = None) -> Sent:
        """Answer what a token asks for, once; durable on return, and the work goes on at once.

        Args:
            data: JSON of the shape that was asked for, at most 256 KiB.
            actor: who answers; by default this client's.

        Raises:
            InputError: the token is not ours, or the reply is not of the shape that was asked for.
            IdentifierError: it is of work of another namespace.
            WorkNotFound: the work item is gone.
            ConflictError: it was answered before, or is not asked yet, or no longer.
        """
        who = self._actor if actor is None else check_name(actor, "actor")
        asked = self._parts.settings.approvals.read(token)
        if self._namespace and namespace_of(asked.work_id) != self._namespace:
            raise IdentifierError(f"the token is not of namespace {self._namespace!r}")
        return await answer(self._parts, token, data, actor=who)

    async def tree(self, work_id: str, *, limit: int = TREE_MAX) -> Kin:
        """A work item with its children, and theirs; at most `limit` work items are read.

        Raises:
            WorkNotFound: there is none of that id.
        """
        return await read_tree(self._parts, await self._tail(self._whole(work_id)), limit=limit)
