"""A load target in the place of DynamoDB and SQS: `python -m tests.bench.load_target PORT LATENCY_MS`.

It keeps what a journal needs (a key is taken once, the newest entry of a work item, the item
that stands) and a queue, and answers each call after a latency. It is no stand-in: it knows
only the calls that work makes on its way, checks no signature, and forgets visibility timeouts.
`GET /calls` gives how often each operation was called.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

Document = dict[str, Any]

_CONDITION_FAILED = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"


class Refused(Exception):
    """A call that fails with an error of DynamoDB."""

    def __init__(self, kind: str, **members: Any) -> None:
        super().__init__(kind)
        self.document = {"__type": kind, "message": kind, **members}


class Tables:
    """What the tables hold: journals by work item and position, rows by work item."""

    def __init__(self) -> None:
        self._journals: dict[str, dict[int, Document]] = defaultdict(dict)
        self._rows: dict[tuple[str, str], Document] = {}

    async def answer(self, operation: str, request: Document) -> Document:
        return getattr(self, f"_{operation}")(request)  # type: ignore[no-any-return]

    def _insert(self, item: Document) -> Document | None:
        """The item that stands, if the key is taken."""
        journal, position = self._journals[item["work"]["S"]], int(item["position"]["N"])
        return journal.setdefault(position, item) if position in journal else journal.update({position: item})

    def _PutItem(self, request: Document) -> Document:
        item = request["Item"]
        if "position" in item and "entry" in item:
            if (standing := self._insert(item)) is not None:
                raise Refused(_CONDITION_FAILED, Item=standing)
        else:
            self._rows[request["TableName"], item["work"]["S"]] = item
        return {}

    def _UpdateItem(self, request: Document) -> Document:
        return {}

    def _GetItem(self, request: Document) -> Document:
        found = self._rows.get((request["TableName"], request["Key"]["work"]["S"]))
        return {"ConsumedCapacity": {}, **({} if found is None else {"Item": found})}

    def _TransactWriteItems(self, request: Document) -> Document:
        for action in request["TransactItems"]:
            self._PutItem(action["Put"])
        return {}

    def _BatchExecuteStatement(self, request: Document) -> Document:
        responses: list[Document] = []
        for one in request["Statements"]:
            names = [part.partition("'")[0] for part in one["Statement"].partition("{'")[2].split(", '")]
            item = dict(zip(names, one["Parameters"], strict=True))
            standing = self._insert(item)
            error = {"Code": "DuplicateItem", "Item": standing}
            responses.append({} if standing is None else {"Error": error})
        return {"Responses": responses}

    def _Query(self, request: Document) -> Document:
        values = request["ExpressionAttributeValues"]
        if ":work" not in values:  # due rows, marks: none
            return {"Items": [], "Count": 0}
        journal, at = self._journals[values[":work"]["S"]], int(values[":position"]["N"])
        if "#position = :position" in request["KeyConditionExpression"]:
            items = [journal[at]] if at in journal else []
        elif request["ScanIndexForward"]:
            items = [
                journal[position]
                for position in range(at + 1, at + 1 + request["Limit"])
                if position in journal
            ]
        else:
            items = [journal[len(journal) - 1]] if journal else []
        return {"Items": items, "Count": len(items)}


class Queues:
    """Messages by queue."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[str]] = defaultdict(deque)
        self._came: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._numbers = count()

    async def answer(self, operation: str, request: Document) -> Document:
        return await getattr(self, f"_{operation}")(request)  # type: ignore[no-any-return]

    async def _GetQueueUrl(self, request: Document) -> Document:
        return {"QueueUrl": f"http://127.0.0.1/1/{request['QueueName']}"}

    async def _GetQueueAttributes(self, request: Document) -> Document:
        return {"Attributes": {"ApproximateNumberOfMessages": str(len(self._waiting[request["QueueUrl"]]))}}

    async def _SendMessageBatch(self, request: Document) -> Document:
        url = request["QueueUrl"]
        self._waiting[url].extend(entry["MessageBody"] for entry in request["Entries"])
        self._came[url].set()
        return self._all(request)

    async def _ReceiveMessage(self, request: Document) -> Document:
        url, taken = request["QueueUrl"], []
        if not self._waiting[url] and request["WaitTimeSeconds"]:
            self._came[url].clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._came[url].wait(), request["WaitTimeSeconds"])
        while self._waiting[url] and len(taken) < request["MaxNumberOfMessages"]:
            number = str(next(self._numbers))
            taken.append({"MessageId": number, "ReceiptHandle": number, "Body": self._waiting[url].popleft()})
        return {"Messages": taken}

    async def _DeleteMessageBatch(self, request: Document) -> Document:
        return self._all(request)

    async def _ChangeMessageVisibilityBatch(self, request: Document) -> Document:
        return self._all(request)

    def _all(self, request: Document) -> Document:
        return {"Successful": [{"Id": entry["Id"]} for entry in request["Entries"]], "Failed": []}


class Server:
    """Answers HTTP calls of the JSON protocol after a latency."""

    def __init__(self, latency_seconds: float) -> None:
        self.calls: Counter[str] = Counter()
        self._latency_seconds = latency_seconds
        self._answers: dict[str, Callable[[str, Document], Awaitable[Document]]] = {
            "DynamoDB_20120810": Tables().answer,
            "AmazonSQS": Queues().answer,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(_header(head, b"content-length:") or 0)
                body = await reader.readexactly(length)
                status, document = await self._answer(_header(head, b"x-amz-target:"), body)
                data = json.dumps(document).encode()
                writer.write(
                    b"HTTP/1.1 %d X\r\ncontent-type: application/x-amz-json-1.0\r\n"
                    b"content-length: %d\r\n\r\n%b" % (status, len(data), data)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, target: str, body: bytes) -> tuple[int, Document]:
        if not target:
            return 200, dict(self.calls)
        service, _, lowered = target.partition(".")
        names = {"dynamodb_20120810": "DynamoDB_20120810", "amazonsqs": "AmazonSQS"}
        operation = _OPERATIONS[lowered]
        self.calls[operation] += 1
        await asyncio.sleep(self._latency_seconds)
        try:
            return 200, await self._answers[names[service]](operation, json.loads(body))
        except Refused as refused:
            return 400, refused.document


_OPERATIONS = {
    name[1:].lower(): name[1:]
    for kind in (Tables, Queues)
    for name in vars(kind)
    if name[:1] == "_" and name[1:2].isupper()
}


def _header(head: bytes, name: bytes) -> str:
    start = head.find(b"\r\n" + name)
    if start < 0:
        return ""
    return head[start + 2 + len(name) : head.index(b"\r\n", start + 2)].strip().decode()


async def _main() -> None:
    """Serve until who started it is gone."""
    port, latency_ms = int(sys.argv[1]), float(sys.argv[2])
    server = await asyncio.start_server(Server(latency_ms / 1000).serve, "127.0.0.1", port, limit=1 << 22)
    print("ready", flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)


if __name__ == "__main__":
    asyncio.run(_main())
