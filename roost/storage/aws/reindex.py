"""Index rows that a restore left out or behind, from the journals, which decide.

Tables are restored one by one, and two of one stack may come back as they were a moment apart:
work may have a journal and no row, which no sweeper would ever look at.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from roost.journal.projection import project_over
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.table import Table

_AT_ONCE_MAX = 1000  # ids of one page of the scan, whose journals are looked at before the next


@dataclass(slots=True)
class Reindexed:
    """What was done: journals looked at, and rows that were missing or behind."""

    journals: int = 0
    missing: int = 0
    behind: int = 0


async def reindex(backend: AwsBackend) -> Reindexed:
    """Write every row that is missing or behind its journal, due at once if its work lives.

    Safe while workers run: a newer row is never replaced, and leases stand as heartbeats left
    them. Reads the whole journal table: one read unit for each 8 kB of it.
    """
    table, done, cursor = Table(backend.aws, backend.aws.names.journal), Reindexed(), None
    last = ""
    while True:
        page = await table.call(
            "scan",
            ProjectionExpression="#work",
            ExpressionAttributeNames={"#work": "work"},
            Limit=_AT_ONCE_MAX,
            **({} if cursor is None else {"ExclusiveStartKey": cursor}),
        )
        for item in page["Items"]:  # entries of one journal come together
            work_id = item["work"]["S"]
            if work_id != last:
                await _look(backend, work_id, done)
                last = work_id
        cursor = page.get("LastEvaluatedKey")
        if cursor is None:
            return done


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
