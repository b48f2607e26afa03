"""Which IAM actions the SDK's calls need, and on which part of a stack.

From the Service Authorization Reference. A call is not always an action of the same name:
a transaction needs those of its items, a batch of messages that of one message, PartiQL an
action of its own, and the steps of a multipart upload that of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from roost.models import Lane
from roost.storage.aws.clients import Clients
from roost.storage.aws.names import Names, definition, roles

Use = tuple[str, str]
"""A part of a stack, as `roles.json` calls it, and an IAM action on it."""

_TRANSACTED = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
_ITEM_CALLS = (
    "GetItem",
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "Query",
    "Scan",
    "DescribeTable",
    "DescribeTimeToLive",
)
_STREAM_CALLS = ("DescribeStream", "GetShardIterator", "GetRecords")
_SQS_CALLS = {
    "SendMessage": "SendMessage",
    "SendMessageBatch": "SendMessage",
    "DeleteMessage": "DeleteMessage",
    "DeleteMessageBatch": "DeleteMessage",
    "ChangeMessageVisibility": "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
    "ReceiveMessage": "ReceiveMessage",
    "GetQueueAttributes": "GetQueueAttributes",
    "GetQueueUrl": "GetQueueUrl",
}
_S3_CALLS = {
    "PutObject": ["PutObject"],
    "CreateMultipartUpload": ["PutObject"],
    "UploadPart": ["PutObject"],
    "CompleteMultipartUpload": ["PutObject"],
    "AbortMultipartUpload": ["AbortMultipartUpload"],
    "GetObject": ["GetObject"],
    "HeadObject": ["GetObject"],
    "CopyObject": ["GetObject", "PutObject"],
}
_BUCKET_CALLS = {
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "GetBucketPolicy": "GetBucketPolicy",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
}
_PARTIQL = {"INSERT": "PartiQLInsert", "SELECT": "PartiQLSelect"}
_EQUALS = re.compile(r"\S+ = (:\w+)")
_STATEMENT = re.compile(r'(INSERT) INTO "([^"]+)"|(SELECT) .* FROM "([^"]+)"')


class UnknownCall(AssertionError):
    """A call of which nothing is known here: look it up in the Service Authorization Reference."""


@dataclass(frozen=True, slots=True)
class Fence:
    """What the policy of a role lets through that is fenced in to a namespace, as the module `iam`
    writes it: no parts that can't be fenced, and elsewhere keys of the namespace only."""

    role: str
    namespace: str

    def lets(self, part: str, action: str, keys: Iterable[str]) -> bool:
        """Whether a call may be made."""
        file = roles()
        if action not in file["roles"][self.role].get(part, ()) or part in file["never_fenced_parts"]:
            return False
        if part not in file["fenced"]:
            return True
        return action not in file["never_fenced"] and all(self.has(part, action, key) for key in keys)

    def has(self, part: str, action: str, key: str) -> bool:
        """Whether a key is within."""
        is_read = (part, action) == ("journal", "dynamodb:Query")
        return key.startswith(self.own) or (is_read and key.startswith(self._of("shared_reads")))

    @property
    def own(self) -> tuple[str, ...]:
        """Beginnings of the keys that it may read and write."""
        return (f"{self.namespace}/", *self._of("shared"))

    def _of(self, which: str) -> tuple[str, ...]:
        return tuple(prefix.format(namespace=self.namespace) for prefix in roles()[which][self.role])


class Recorder:
    """Takes note of what the calls of this process need.

    Args:
        fence: refuses what is not within it, as AWS would.

    Attributes:
        used: what was needed so far.
        keys: the leading keys of tables and indexes that were named: part, action, key.
        refused: what was needed and refused.
        is_paused: whether calls go unnoticed.
    """

    def __init__(self, names: Names, fence: Fence | None = None) -> None:
        self.used: set[Use] = set()
        self.keys: set[tuple[str, str, str]] = set()
        self.refused: set[Use] = set()
        self.is_paused = False
        self._fence = fence
        self._tables = {names.journal: "journal", names.index: "index", names.claims: "claims"}
        self._queues = {names.queue(lane): "lanes" for lane in Lane} | {names.dead_letters: "dead_letters"}

    def record(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        """One call of the SDK; a handler of its event `provide-client-params`."""
        service, call = model.service_model.service_name, model.name
        if self.is_paused:
            return
        try:
            used = set(self.uses(params, model))
        except UnknownCall as error:
            if self._fence is None:
                raise
            raise _denied(str(error), call) from None
        keys = set[tuple[str, str, str]]()
        if service == "dynamodb":
            for table, action, key in _leading_keys(call, params):
                index = f"/{params['IndexName']}" if "IndexName" in params else ""
                keys.add((self._tables[table] + index, f"dynamodb:{action}", key))
        if self._fence is not None:
            self._refuse(self._fence, call, used, keys)
        self.used |= used
        self.keys |= keys

    def _refuse(self, fence: Fence, call: str, used: set[Use], keys: set[tuple[str, str, str]]) -> None:
        for part, action in used:
            named = [key for at, by, key in keys if (at, by) == (part, action)]
            if not fence.lets(part, action, named):
                self.refused.add((part, action))
                raise _denied(f"{fence.role} is not authorized to perform: {action} on {part} {named}", call)

    def uses(self, params: Mapping[str, Any], model: Any) -> Iterator[Use]:
        """What one call needs."""
        service, call = model.service_model.service_name, model.name
        match service, call:
            case "sts", "GetCallerIdentity":
                return  # needs no permission
            case "dynamodb", "TransactWriteItems":
                for action in params["TransactItems"]:
                    for kind, item in action.items():
                        yield self._tables[item["TableName"]], f"dynamodb:{_TRANSACTED[kind]}"
            case "dynamodb", "BatchExecuteStatement" | "ExecuteStatement":
                for one in params.get("Statements", [params]):
                    yield self._partiql(one["Statement"])
            case "dynamodb", "BatchGetItem" | "BatchWriteItem":
                for table in params["RequestItems"]:
                    yield self._tables[table], f"dynamodb:{call}"
            case "dynamodb", _ if call in _ITEM_CALLS:
                index = f"/{params['IndexName']}" if "IndexName" in params else ""
                yield self._tables[params["TableName"]] + index, f"dynamodb:{call}"
            case "dynamodbstreams", _ if call in _STREAM_CALLS:
                yield "journal/stream", f"dynamodb:{call}"
            case "sqs", _ if call in _SQS_CALLS:
                queue = params.get("QueueName") or params["QueueUrl"].rpartition("/")[2]
                yield self._queues[queue], f"sqs:{_SQS_CALLS[call]}"
            case "s3", _ if call in _BUCKET_CALLS:
                yield "bucket", f"s3:{_BUCKET_CALLS[call]}"
            case "s3", _ if call in _S3_CALLS:
                assert params["Key"].startswith(definition()["bucket"]["blob_prefix"])
                for action in _S3_CALLS[call]:
                    yield "blobs", f"s3:{action}"
            case _:
                raise UnknownCall(f"{service} {call}")

    def _partiql(self, statement: str) -> Use:
        found = _STATEMENT.match(statement)
        assert found is not None, statement
        kind, table = found[1] or found[3], found[2] or found[4]
        return self._tables[table], f"dynamodb:{_PARTIQL[kind]}"


def _denied(text: str, call: str) -> ClientError:
    return ClientError({"Error": {"Code": "AccessDeniedException", "Message": text}}, call)


def _leading_keys(call: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Table, action and leading key of all items that a call names; nothing for PartiQL and scans."""
    match call:
        case "TransactWriteItems":
            for action in params["TransactItems"]:
                for kind, item in action.items():
                    yield item["TableName"], _TRANSACTED[kind], _key_of(item)
        case "BatchGetItem":
            for table, asked in params["RequestItems"].items():
                yield from ((table, call, _value_of(table, key)) for key in asked["Keys"])
        case "BatchWriteItem":
            for table, requests in params["RequestItems"].items():
                for request in requests:
                    [item] = request.values()
                    yield table, call, _value_of(table, item.get("Item") or item["Key"])
        case "Query":
            found = _EQUALS.search(params["KeyConditionExpression"])
            assert found is not None, params["KeyConditionExpression"]
            yield params["TableName"], call, params["ExpressionAttributeValues"][found[1]]["S"]
        case _ if "Key" in params or "Item" in params:
            yield params["TableName"], call, _key_of(params)


def _key_of(params: Mapping[str, Any]) -> str:
    return _value_of(params["TableName"], params.get("Item") or params["Key"])


def _value_of(table: str, item: Mapping[str, Any]) -> str:
    """The leading key of an item, as in the table's definition."""
    [hash_key, *_] = definition()["tables"][table.rpartition("-")[2]]["key"]
    return str(item[hash_key["name"]]["S"])


def record(clients: Clients, recorder: Recorder) -> None:
    """Have a recorder take note of all calls that these clients make from here."""
    get, seen = clients.get, set[int]()

    async def watched(service: Any) -> Any:
        client = await get(service)
        if id(client) not in seen:
            seen.add(id(client))
            client.meta.events.register(f"provide-client-params.{service}", recorder.record)
        return client

    clients.get = watched  # type: ignore[method-assign]
