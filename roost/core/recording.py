"""What a step records and closes by way of its context, under the lease of its session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roost import jsonio
from roost.core import bodies, claims, records
from roost.core.company import Company
from roost.core.holder import ABANDONED, CANCELLED
from roost.core.observe import Told
from roost.core.opening import Opening
from roost.core.parts import Parts
from roost.core.switches import Switches
from roost.engine import EngineRegistry
from roost.errors import LeaseLost, OutcomeUnknown
from roost.journal.events import Recorded
from roost.journal.limits import Close
from roost.models import WorkItem
from roost.names import namespace_of
from roost.storage.ports import Delivery


class Recording(Opening):
    """A session as its steps reach it: `context.Recorder`.

    Args:
        engines: those that this worker can run.
        switches: what its worker knows of what is paused; None: nothing.
        company: those that run in its worker; None: nobody does.
    """

    def __init__(
        self,
        parts: Parts,
        engines: EngineRegistry,
        worker_id: str,
        delivery: Delivery,
        switches: Switches | None = None,
        company: Company | None = None,
    ) -> None:
        super().__init__(parts, engines, worker_id, delivery, switches, company)
        self._item: WorkItem
        self._must_ask = False  # each further step: a rate counts it, or a key was closed
        self._told: Told | None = None

    def _check_running(self, version: int) -> None:
        """Refuse what comes from a step that is over: a thread or task of it may live on, and must
        neither begin an effect that the next try does, too, nor leave its results to the next step.

        What cleans up after itself when it is abandoned or cancelled still runs.
        """
        why = self.interruption.why
        if self.token is None or self._control.lease is None or self._control.version != version:
            why = "its step is over"
        elif why in (ABANDONED, CANCELLED):
            return
        if why is not None:
            raise LeaseLost(self.work_id, self.token or -1, why)

    async def recorded(self, key: str, version: int) -> tuple[bool, Any]:
        self._check_running(version)
        position = dict(self._control.once).get(key)
        if position is None:
            if self._told is not None:
                self._told.once_began(key)
            return False, None
        if position < 0:
            raise OutcomeUnknown(key)
        return True, jsonio.load(await bodies.load(self._parts.backend, await self._get(position)))

    async def begin(self, key: str) -> None:
        records.check_room(self._control.once, key)
        await self._append(Recorded(key, is_begun=True))

    async def record(self, key: str, version: int, result: Any) -> Any:
        self._check_running(version)
        records.check_room(self._control.once, key)
        raw = records.dump(key, result)
        body = await self._patiently(lambda: bodies.store(self._parts.backend, raw))
        entry = await self._append(Recorded(key), body)
        if self._told is not None:
            self._told.once_ended(key, entry.position)
        return jsonio.load(raw)

    def spent(self, amounts: Mapping[str, float], provider: str, model: str) -> None:
        if self._told is not None:
            self._told.tokens_used(amounts, provider, model)

    async def close_resource(self, resource: str, seconds: float) -> None:
        """Close a resource for everybody; this lease, too, asks before its next step."""
        until = self._parts.clock.now() + seconds
        namespace = namespace_of(self.work_id)
        await self._patiently(
            lambda: claims.change(self._parts, resource, Close(until, self.work_id), namespace=namespace)
        )
        self._must_ask = bool(self._item.resources)
