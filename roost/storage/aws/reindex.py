"""Index rows that a restore left out or behind, from the journals, which decide; and rows that are over.

Tables are restored one by one, and two of one stack may come back as they were a moment apart:
work may have a journal and no row, which no sweeper would ever look at.

And a journal may come back that was being deleted, without its last entries: its row is in no list,
and gives way to new work of that id, but is not yet left to the time to live. (After a worker that
died in the midst of a deletion the sweeps do that.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from roost.journal.projection import project_over
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.deletion import Deletion
from roost.storage.aws.index import EXPIRING
from roost.storage.aws.names import EXPIRES_AT
from roost.storage.aws.table import Item, Table

_AT_ONCE_MAX = 1000  # ids of one page of the scan, whose journals are looked at before the next


@dataclass(slots=True)
class Reindexed:
    """What was done: journals looked at; rows that were missing, behind, or of deleted journals."""

    journals: int = 0
    missing: int = 0
    behind: int = 0
    over: int = 0


async def reindex(backend: AwsBackend) -> Reindexed:
    """Write every row that is missing or behind its journal, due at once if its work lives.

    Safe while workers run: a newer row is never replaced, and leases stand as heartbeats left
    them. Reads both tables whole: one read unit for each 8 kB of them.
    """
    journal, index = (
        Table(backend.aws, name) for name in (backend.aws.names.journal, backend.aws.names.index)
    )
    done, last = Reindexed(), ""
    async for item in _scan(journal, ["work"]):  # entries of one journal come together
        work_id = item["work"]["S"]
        if work_id != last:
            await _look(backend, work_id, done)
            last = work_id
    deletion = Deletion(backend.aws, backend.index, backend.accounts)
    async for row in _scan(index, ["work", "position", "created_at", EXPIRING, EXPIRES_AT]):
        if EXPIRING in row and EXPIRES_AT not in row and await backend.journal.tail(row["work"]["S"]) is None:
            done.over += await deletion.bury(row["work"]["S"], row["position"], row["created_at"])
    return done


async def _scan(table: Table, attributes: Sequence[str]) -> AsyncIterator[Item]:
    names = {f"#{name}": name for name in attributes}
    arguments: Item = {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
    while True:
        page = await table.call("scan", Limit=_AT_ONCE_MAX, **arguments)
        for item in page["Items"]:
            yield item
        if "LastEvaluatedKey" not in page:
            return
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]


async def _look(backend: AwsBackend, work_id: str, done: Reindexed) -> None:
    done.journals += 1
    row, tail = await backend.index.get(work_id), await backend.journal.tail(work_id)
    if tail is None or (row is not None and row.position >= tail.position):
        return
    if row is None:
        done.missing += 1
    else:
        done.behind += 1
    made = project_over(tail, row)
    is_live = not tail.control.state.is_terminal
    await backend.index.put(replace(made, due_at=backend.aws.clock.now()) if is_live else made)
