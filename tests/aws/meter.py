"""Counts what goes to AWS: each call by operation and table or queue, and what it would be charged for."""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import Any

from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.cost import IN_TRANSACTION, READ_UNIT_BYTES, item_bytes, price, put_units

_SERVICES = ("dynamodb", "sqs", "s3")
_S3_UNITS = {"PutObject": "s3_put", "GetObject": "s3_get", "HeadObject": "s3_get"}
Item = dict[str, Any]


class Meter:
    """The calls of a backend's clients, of all services.

    Keeps the items that it sees written, so that it knows what a write changes; so it has
    to see all writes of what it is asked about.

    Attributes:
        units: by name in the price list.
    """

    def __init__(self, backend: AwsBackend) -> None:
        self.units: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._backend = backend
        self._items: dict[tuple[str, str, str], Item] = {}

    async def begin(self) -> Meter:
        """Look at the calls from here on; what a process asks only once is asked before."""
        await self._backend.queue.backlog()  # the URLs of the queues
        for service in _SERVICES:
            events = (await self._backend.aws.clients.get(service)).meta.events
            events.register(f"provide-client-params.{service}", self._asked)
            events.register(f"after-call.{service}", self._answered)
        return self

    def taken(self) -> dict[str, int]:
        """Calls since this was asked last, such as `{"PutItem journal": 1}`."""
        taken, self._calls = dict(self._calls), Counter()
        return taken

    def usd(self) -> float:
        """Dollars for all units."""
        return sum(count * price(unit) for unit, count in self.units.items())  # type: ignore[arg-type]

    def _asked(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        context["asked"] = params
        for where in self._wheres(params):
            self._calls[f"{model.name} {where}"] += 1

    def _wheres(self, params: dict[str, Any]) -> list[str]:
        """The table or queue that a call is about; of a transaction all tables, joined."""
        if "QueueUrl" in params:
            return [self._short(params["QueueUrl"].rpartition("/")[2])]
        if "TableName" in params:
            return [self._short(params["TableName"])]
        if "TransactItems" in params:
            tables = {
                self._short(part["TableName"]) for one in params["TransactItems"] for part in one.values()
            }
            return ["+".join(sorted(tables))]
        if "RequestItems" in params:
            return [self._short(name) for name in params["RequestItems"]]
        return ["journal" if "Statements" in params else "blobs"]

    def _short(self, name: str) -> str:
        return name.removeprefix(f"{self._backend.aws.names.stack}-")

    def _answered(self, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        params = context["asked"]
        if model.service_model.service_name == "sqs":
            self.units["sqs_request"] += 1
        elif model.name in _S3_UNITS:
            self.units[_S3_UNITS[model.name]] += 1
        elif "Error" not in parsed:
            self._dynamodb(model.name, params, parsed)

    def _dynamodb(self, operation: str, params: dict[str, Any], parsed: dict[str, Any]) -> None:
        match operation:
            case "Query" | "GetItem" | "BatchGetItem":
                self.units["dynamodb_read_unit"] += self._read(params, parsed)  # type: ignore[assignment]
            case "PutItem":
                self._written(params["TableName"], params["Item"], 1)
            case "UpdateItem":
                self._updated(params)
            case "DeleteItem":
                self._deleted(params["TableName"], params["Key"], 1)
            case "BatchExecuteStatement":
                for statement, answer in zip(params["Statements"], parsed["Responses"], strict=True):
                    assert "Error" not in answer
                    self._written(self._backend.aws.names.journal, _inserted(statement), 1)
            case "TransactWriteItems":
                for action in params["TransactItems"]:
                    [(kind, one)] = action.items()
                    if kind == "Put":
                        self._written(one["TableName"], one["Item"], IN_TRANSACTION)
                    else:
                        assert kind == "Delete"
                        self._deleted(one["TableName"], one["Key"], IN_TRANSACTION)
            case "BatchWriteItem":
                for table, requests in params["RequestItems"].items():
                    for request in requests:
                        if "DeleteRequest" in request:  # else seeds of a test; not counted
                            self._deleted(table, request["DeleteRequest"]["Key"], 1)
            case _:
                raise AssertionError(operation)

    def _read(self, params: dict[str, Any], parsed: dict[str, Any]) -> float:
        """A query by the sum of its items, a batch by each item; half where not consistent."""
        if "Responses" in parsed:
            asked = sum(len(one["Keys"]) for one in params["RequestItems"].values())
            found = [item for items in parsed["Responses"].values() for item in items]
            return sum(_units(item) for item in found) + (asked - len(found))
        items = parsed.get("Items") or [parsed.get("Item", {})]
        units = max(1, ceil(sum(map(item_bytes, items)) / READ_UNIT_BYTES))
        return units if params.get("ConsistentRead") else units / 2

    def _written(self, table: str, item: Item, times: int) -> None:
        short, key = self._short(table), self._key(table, item)
        if short == "claims":
            units = _put_without_indexes(self._items.get(key), item) * times
        else:
            units = put_units(short, self._items.get(key), item, times=times)
        self.units["dynamodb_write_unit"] += units
        self._items[key] = item

    def _updated(self, params: dict[str, Any]) -> None:
        """An update of the forms `SET #name = :name, …` and `REMOVE #name`; a set is all that is in it."""
        kind = params["UpdateExpression"].partition(" ")[0]
        if kind in ("ADD", "DELETE"):
            values = {name[1:]: value for name, value in params["ExpressionAttributeValues"].items()}
            self._written(params["TableName"], {**params["Key"], **values}, 1)
            return
        item = dict(self._items.get(self._key(params["TableName"], params["Key"]), params["Key"]))
        sets, _, removes = params["UpdateExpression"].partition(" REMOVE ")
        for change in sets.removeprefix("SET ").split(", "):
            name, _, value = change.partition(" = ")
            item[params["ExpressionAttributeNames"][name]] = params["ExpressionAttributeValues"][value]
        for name in removes.split(", ") if removes else []:
            item.pop(params["ExpressionAttributeNames"][name], None)
        self._written(params["TableName"], item, 1)

    def _deleted(self, table: str, key: Item, times: int) -> None:
        short, before = self._short(table), self._items.pop(self._key(table, key))
        if short == "claims":
            units = _put_without_indexes(before, {}) * times
        else:
            units = put_units(short, before, {}, times=times)
        self.units["dynamodb_write_unit"] += units

    def _key(self, table: str, item: Item) -> tuple[str, str, str]:
        names = {"journal": ("work", "position"), "index": ("work", "work"), "claims": ("subject", "part")}
        first, second = (next(iter(item[name].values())) for name in names[self._short(table)])
        return table, first, second


def _units(item: Item) -> int:
    return max(1, ceil(item_bytes(item) / READ_UNIT_BYTES))


def _put_without_indexes(before: Item | None, after: Item) -> int:
    return max(1, *(ceil(item_bytes(item) / 1024) for item in (before or {}, after)))


def _inserted(statement: dict[str, Any]) -> Item:
    """The item of `INSERT INTO "t" VALUE {'name': ?, …}`."""
    names = [part.partition("'")[0] for part in statement["Statement"].partition("{'")[2].split(", '")]
    return dict(zip(names, statement["Parameters"], strict=True))
