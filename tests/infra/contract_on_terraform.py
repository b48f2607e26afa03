"""The contract suite on the tables, queues and bucket that Terraform made.

Run by `python -m tests.infra`, which gives it a stack. Each test empties the stack first. What the
suite's calls need of IAM is taken note of: all of it must be in what roles are given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import pytest

from roost.config import AwsSettings
from roost.models import Lane
from roost.storage.aws.backend import AwsBackend
from roost.storage.aws.clients import Clients
from roost.storage.aws.names import Names, definition, roles
from roost.storage.ports import Backend, Finding
from roost.testing.contract import (
    AccountsContract,
    ApprovalsContract,
    ArtifactsContract,
    AttemptsContract,
    BackendContract,
    BackendHarness,
    ChildrenContract,
    ClaimsContract,
    ConformanceContract,
    ControlContract,
    DeedsContract,
    DirectivesContract,
    EndsContract,
    FlowsContract,
    IndexContract,
    JournalContract,
    LimitsContract,
    ModelContract,
    OperationsContract,
    ParkingContract,
    QueueContract,
    SignalsContract,
)
from roost.testing.standins import StandIn
from tests.infra.actions import Recorder, record
from tests.standins.harness import SHARDS, AwsHarness, point_sdk_at

Recorders = Mapping[str, Recorder]
_BATCH = 25  # DynamoDB API reference, "BatchWriteItem"


class TerraformHarness(AwsHarness):
    """Takes turns with the stacks, and empties each before it is used."""

    appends_in_flight = 256  # moto fails at the statements of group commit

    def __init__(self, standin: StandIn, stacks: Iterator[AwsSettings], recorders: Recorders) -> None:
        super().__init__(standin)
        self._stacks = stacks
        self._recorders = recorders

    async def open(self) -> Backend:
        self._settings = next(self._stacks)
        await empty(_names(self._settings))
        return await self.reopen()

    async def reopen(self) -> Backend:
        backend = await super().reopen()
        assert isinstance(backend, AwsBackend)
        recorder = self._recorders[self._settings.stack]
        record(backend.aws.clients, recorder)
        check = backend.check

        async def unnoticed() -> Sequence[Finding]:
            """`roost doctor` is run with rights of one's own, not with those of a role."""
            recorder.is_paused = True
            try:
                return await check()
            finally:
                recorder.is_paused = False

        backend.check = unnoticed  # type: ignore[method-assign]
        return backend


def _names(settings: AwsSettings) -> Names:
    return Names(settings.stack, str(settings.bucket), settings.shards)


async def empty(names: Names) -> None:
    """Delete all that a stack holds, and begin its stream anew."""
    clients = Clients(16)
    try:
        tables = [_empty_table(clients, names, which) for which in definition()["tables"]]
        queues = [_empty_queue(clients, name) for name in [*map(names.queue, Lane), names.dead_letters]]
        await asyncio.gather(*tables, *queues, _empty_bucket(clients, names.bucket))
    finally:
        await clients.close()


async def _empty_table(clients: Clients, names: Names, which: str) -> None:
    dynamodb = await clients.get("dynamodb")
    table, definition_ = getattr(names, which), definition()["tables"][which]
    keys = [part["name"] for part in definition_["key"]]
    arguments: dict[str, Any] = {"TableName": table}
    while True:
        page = await dynamodb.scan(**arguments)
        deletes = [{"DeleteRequest": {"Key": {key: item[key] for key in keys}}} for item in page["Items"]]
        for start in range(0, len(deletes), _BATCH):
            await dynamodb.batch_write_item(RequestItems={table: deletes[start : start + _BATCH]})
        if "LastEvaluatedKey" not in page:
            break
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    if view := definition_["stream"]:
        await dynamodb.update_table(TableName=table, StreamSpecification={"StreamEnabled": False})
        specification = {"StreamEnabled": True, "StreamViewType": view}
        await dynamodb.update_table(TableName=table, StreamSpecification=specification)


async def _empty_queue(clients: Clients, name: str) -> None:
    sqs = await clients.get("sqs")
    await sqs.purge_queue(QueueUrl=(await sqs.get_queue_url(QueueName=name))["QueueUrl"])


async def _empty_bucket(clients: Clients, bucket: str) -> None:
    s3 = await clients.get("s3")
    async for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        objects = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        if objects:
            await s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})


class Plugin:
    """Gives the suite its stand-in and stacks.

    Args:
        stacks: bucket by stack; at least two, since some tests open two stores.
    """

    def __init__(self, standin: StandIn, stacks: Mapping[str, str]) -> None:
        self._standin = standin
        many = TerraformHarness.appends_in_flight
        self._settings = [
            AwsSettings(stack=stack, bucket=bucket, shards=SHARDS, appends_in_flight=many)
            for stack, bucket in stacks.items()
        ]
        self._recorders = {one.stack: Recorder(_names(one)) for one in self._settings}
        self._turns = cycle(self._settings)

    @pytest.fixture
    def harness(self, monkeypatch: pytest.MonkeyPatch) -> BackendHarness:
        point_sdk_at(self._standin, monkeypatch)
        monkeypatch.setattr("roost.storage.aws.expiry.DAYS_MAX", 16)
        return TerraformHarness(self._standin, self._turns, self._recorders)

    def not_granted(self) -> list[str]:
        """What the suite needed of IAM and no role has."""
        given = {
            (part, action)
            for parts in roles()["roles"].values()
            for part, actions in parts.items()
            for action in actions
        }
        used = set().union(*(recorder.used for recorder in self._recorders.values()))
        return [f"{action} on {part}" for part, action in sorted(used - given)]


class TestJournal(JournalContract):
    pass


class TestIndex(IndexContract):
    pass


class TestClaims(ClaimsContract):
    pass


class TestAccounts(AccountsContract):
    pass


class TestLimits(LimitsContract):
    pass


class TestQueue(QueueContract):
    pass


class TestArtifacts(ArtifactsContract):
    pass


class TestBackend(BackendContract):
    pass


class TestAttempts(AttemptsContract):
    pass


class TestDeeds(DeedsContract):
    """See `DeedsContract`."""


class TestDirectives(DirectivesContract):
    pass


class TestSignals(SignalsContract):
    pass


class TestApprovals(ApprovalsContract):
    pass


class TestChildren(ChildrenContract):
    pass


class TestEnds(EndsContract):
    pass


class TestFlows(FlowsContract):
    pass


class TestControl(ControlContract):
    pass


class TestParking(ParkingContract):
    pass


class TestOperations(OperationsContract):
    pass


class TestConformance(ConformanceContract):
    pass


class TestModel(ModelContract):
    """Few programs: the stand-in is slow, and they run on it elsewhere, too."""

    examples = 2
    calls = 10
    shrinks = False
