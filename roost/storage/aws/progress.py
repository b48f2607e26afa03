"""How far all sweeps together have come with work whose retention time is over: one item of the index table.

Its `day` is the one before which no process has found a mark. Its `noted` are ids of journals that
somebody was about to delete when they were noted: a deletion that its process did not live to
finish may have left nothing else by which it is found. Whoever looks strikes out what is over, so
that there are as many as sweeps have in hand, but for what a few that died have left.
"""

from __future__ import annotations

from collections.abc import Sequence

from roost.storage.aws.clients import Aws
from roost.storage.aws.table import Item, Table

_KEY = {"work": {"S": "#expiry"}}  # no work id has the mark


class Progress:
    """Reads and writes the item."""

    def __init__(self, aws: Aws) -> None:
        self._table = Table(aws, aws.names.index)

    async def read(self) -> tuple[int, Sequence[str]]:
        """The day, 0 if nobody has looked yet; and the ids that are noted. Maybe of a moment ago."""
        item = (await self._table.call("get_item", Key=_KEY)).get("Item", {})
        day = int(item["day"]["N"]) if "day" in item else 0
        return day, sorted(item["noted"]["SS"]) if "noted" in item else []

    async def store_day(self, day: int) -> None:
        """Say that nothing is left of the days before; of two who say so one may be the earlier."""
        await self._update("SET #day = :day", "day", {"N": str(day)})

    async def note(self, work_ids: Sequence[str]) -> None:
        """Note journals that are about to be deleted; durable on return."""
        if work_ids:
            await self._update("ADD #noted :noted", "noted", {"SS": sorted(set(work_ids))})

    async def strike_out(self, work_ids: Sequence[str]) -> None:
        """They are deleted, or it was not to be."""
        if work_ids:
            await self._update("DELETE #noted :noted", "noted", {"SS": sorted(set(work_ids))})

    async def _update(self, change: str, name: str, value: Item) -> None:
        await self._table.call(
            "update_item",
            Key=_KEY,
            UpdateExpression=change,
            ExpressionAttributeNames={f"#{name}": name},
            ExpressionAttributeValues={f":{name}": value},
        )
