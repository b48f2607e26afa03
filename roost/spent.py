"""What one work item cost so far, from its journal: what was stored, and on AWS what that is charged.

It is counted when somebody asks; nothing is written for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roost.core.client import Client
    from roost.journal.entries import Entry

ENTRIES_MAX = 2000  # that are read for it; of a longer journal the first so many are counted


async def cost_of(client: Client, storage: str, work_id: str) -> dict[str, Any]:
    """The cost of a work item, as `status --json` shows it.

    Args:
        storage: the URL of its backend.

    Returns:
        `entries` and `bytes` of its journal as stored, artifacts and spilled bodies apart;
        `seconds` that its steps took, those of attempts that failed included, and `cpu_seconds`
        that their code used, as far as the worker's thread saw it;
        `is_whole`, whether all of it was counted; and `aws`, null on other storage: `calls`,
        `write_units`, `read_units`, `sqs_requests`, `s3_requests`, `usd`, and `prices_of`, the
        date of the price list. Compute, storage and idle workers are not in it.
    """
    entries: list[Entry] = []
    is_whole = True
    async for entry in client.events(work_id):
        if len(entries) == ENTRIES_MAX:
            is_whole = False
            break
        entries.append(entry)
    return {
        "entries": len(entries),
        "bytes": sum(map(_stored_bytes, entries)),
        "seconds": round(sum(map(_seconds, entries)), 3),
        "cpu_seconds": round(sum(map(_cpu_ms, entries)) / 1000, 3),
        "is_whole": is_whole,
        "aws": _aws(entries) if storage.partition(":")[0] == "aws" else None,
    }


def _seconds(entry: Entry) -> float:
    from roost.journal.events import AttemptFailed, Committed

    return entry.event.duration_seconds if isinstance(entry.event, AttemptFailed | Committed) else 0.0


def _cpu_ms(entry: Entry) -> int:
    from roost.journal.events import AttemptFailed, Committed, Deferred, Failed, Released

    ends = (AttemptFailed, Committed, Deferred, Failed, Released)
    return entry.event.cpu_ms if isinstance(entry.event, ends) else 0


def _stored_bytes(entry: Entry) -> int:
    from roost.storage.codec import encode_entry

    stored = encode_entry(entry)
    return len(stored.event) + len(stored.control) + len(stored.body or b"")


def _aws(entries: list[Entry]) -> dict[str, Any]:
    from roost.storage.aws.cost import bill_of, prices

    bill = bill_of([entries])
    return {
        "calls": bill.calls,
        "write_units": bill.count("dynamodb_write_unit"),
        "read_units": bill.count("dynamodb_read_unit"),
        "sqs_requests": bill.count("sqs_request"),
        "s3_requests": bill.count("s3_put") + bill.count("s3_get"),
        "usd": bill.usd(),
        "prices_of": prices()["date"],
    }


def in_words(cost: dict[str, Any]) -> str:
    """The same for people, in a line."""
    took = f"{cost['seconds']:g} s in steps, {cost['cpu_seconds']:g} s of CPU"
    words = (
        f"{cost['entries']} {'entry' if cost['entries'] == 1 else 'entries'}, {cost['bytes']} bytes, {took}"
    )
    if not cost["is_whole"]:
        words = f"of the first {words}"
    aws = cost["aws"]
    if aws is None:
        return words
    return (
        f"{words}; {aws['calls']:.0f} calls to AWS, {aws['write_units']:.0f} write units, "
        f"{aws['usd']:.7f} USD at prices of {aws['prices_of']}"
    )
