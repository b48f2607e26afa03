"""Roost itself on what Terraform made: with the environments, limits and times of its resources.

Nothing here names a table or queue; all of it comes from the applied states.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roost.config import AwsSettings
from roost.models import Lane
from roost.storage.aws.admin import create_stack, table_arguments
from roost.storage.aws.clients import Clients
from roost.storage.aws.names import Names, definition
from roost.testing.standins import StandIn
from tests.hosting.service import EventSource, container
from tests.hosting.shapes import schedule_event
from tests.infra.audit import environments, of_type
from tests.infra.stacks import Applied

SECONDS = 180.0  # a bound; on a machine of its own each part takes seconds


class Failed(Exception):
    """What was to happen did not."""


def environ_of(standin: StandIn, given: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment of a process that is one of a stack's, on the stand-in."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    return {
        **kept,
        **standin.environ,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "TMPDIR": str(folder),
        **given,
    }


def roost(environ: Mapping[str, str], folder: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command; what it printed.

    Raises:
        Failed: it did not end with one of `codes`.
    """
    done = subprocess.run(
        [sys.executable, "-m", "roost", *arguments],
        env=dict(environ),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode not in codes:
        raise Failed(
            f"roost {' '.join(arguments)}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


# --- the parts ---------------------------------------------------------------


def check_doctor(applied: Applied, standin: StandIn, folder: Path) -> None:
    """`roost doctor` finds everything to be there, as defined, and allowed."""
    environ = environ_of(standin, client_environ(applied), folder)
    found = json.loads(roost(environ, folder, "doctor", "--json", codes=(0, 1)))
    wrong = [f"{one['name']}: {one['detail']}" for one in found if not one["is_ok"]]
    if wrong:
        raise Failed(f"doctor on {applied.stack}: {'; '.join(wrong)}")


def client_environ(applied: Applied) -> dict[str, str]:
    """What the outputs of the examples tell clients to set."""
    return {"ROOST_STORAGE": f"aws:{applied.stack}", "ROOST_AWS__BUCKET": applied.bucket}


async def check_drift(applied: Applied) -> None:
    """Tables and queues are those that `roost aws create` makes."""
    made = AwsSettings(stack="created", bucket="created-blobs")
    clients = Clients(8)
    try:
        ours = Names(made.stack, str(made.bucket), made.shards)
        theirs = Names(applied.stack, applied.bucket, made.shards)
        await create_stack(clients, ours)
        for which in definition()["tables"]:
            mine, yours = [await _table(clients, names, which) for names in (ours, theirs)]
            wanted = {key: value for key, value in table_arguments(theirs, which).items() if key in yours}
            if not mine == yours == _sorted(wanted):
                raise Failed(f"table {which}: Terraform made {yours}, Roost makes {mine}")
        for name in [lane.value for lane in Lane] + ["dead"]:
            mine, yours = [await _queue(clients, f"{names.stack}-{name}") for names in (ours, theirs)]
            mine["VisibilityTimeout"] = max(mine["VisibilityTimeout"], yours["VisibilityTimeout"])
            if mine != yours:
                raise Failed(f"queue {name}: Terraform made {yours}, Roost makes {mine}")
    finally:
        await clients.close()


async def _table(clients: Clients, names: Names, which: str) -> dict[str, Any]:
    dynamodb = await clients.get("dynamodb")
    found = (await dynamodb.describe_table(TableName=getattr(names, which)))["Table"]
    keys = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "StreamSpecification")
    return _sorted({key: found[key] for key in keys if found.get(key)})


def _sorted(table: Mapping[str, Any]) -> dict[str, Any]:
    """Definitions and indexes have no order, and indexes come with more than was asked for."""
    kept = {key: value for key, value in table.items() if key in ("KeySchema", "StreamSpecification")}
    kept["AttributeDefinitions"] = sorted(table["AttributeDefinitions"], key=lambda one: one["AttributeName"])
    indexes = [
        (index["IndexName"], index["KeySchema"], index["Projection"]["ProjectionType"])
        for index in table.get("GlobalSecondaryIndexes", [])
    ]
    return {**kept, "GlobalSecondaryIndexes": sorted(indexes, key=lambda one: one[0])}


async def _queue(clients: Clients, name: str) -> dict[str, int]:
    sqs = await clients.get("sqs")
    url = (await sqs.get_queue_url(QueueName=name))["QueueUrl"]
    found = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
    names = ("MessageRetentionPeriod", "VisibilityTimeout", "ReceiveMessageWaitTimeSeconds")
    redrive = json.loads(found.get("RedrivePolicy", '{"maxReceiveCount": 0}'))
    return {name: int(found[name]) for name in names} | {"maxReceiveCount": int(redrive["maxReceiveCount"])}


def check_tasks(applied: Applied, standin: StandIn, folder: Path) -> None:
    """A worker with the container's command and environment does work, is live, and drains in time."""
    [definition_] = of_type(applied.resources, "aws_ecs_task_definition")
    [image] = json.loads(definition_["values"]["container_definitions"])
    given = {pair["name"]: pair["value"] for pair in image["environment"]}
    port = str(_free_port())
    given["ROOST_WORKER__HEALTH_PORT"] = port
    environ = environ_of(standin, given, folder)
    probe = [*image["healthCheck"]["command"][2:-1], port]  # after CMD and python
    log = folder / "worker.log"
    with log.open("w") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "roost", *image["command"]], env=environ, cwd=folder, stderr=output
        )
    try:
        client = environ_of(standin, client_environ(applied), folder)
        work_id = roost(client, folder, "enqueue", "--engine", "demo", "--payload", '{"count": 5}').strip()
        roost(client, folder, "wait", work_id, "--timeout", f"{SECONDS:.0f}s")
        asked = subprocess.run([sys.executable, *probe], env=environ, timeout=SECONDS, check=False)
        if asked.returncode != 0:
            raise Failed("the container's health check fails on a worker that is live")
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        worker.wait(image["stopTimeout"])
        if worker.returncode != 0 or time.monotonic() - began > image["stopTimeout"]:
            raise Failed(f"the worker did not drain: {worker.returncode}\n{log.read_text()[-2000:]}")
    finally:
        worker.kill()
        worker.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def check_functions(applied: Applied, standin: StandIn, folder: Path) -> None:
    """Worker and sweeper with the functions' environments and limits do work that also sleeps."""
    given = {address.split(".")[1]: environ for address, environ in environments(applied.resources)}
    environ = {name: environ_of(standin, values, folder) for name, values in given.items()}
    names = Names(applied.stack, applied.bucket, AwsSettings().shards)
    visibility = {
        one["values"]["visibility_timeout_seconds"]
        for one in of_type(applied.resources, "aws_sqs_queue")
        if one["values"]["redrive_policy"]
    }
    clients = Clients(4)
    try:
        source = EventSource(clients, names, visibility_seconds=visibility.pop())
        client = environ_of(standin, client_environ(applied), folder)
        add = ("enqueue", "--engine", "demo", "--payload", '{"count": 5}')
        ids = [roost(client, folder, *add, "--delay", delay).strip() for delay in ("0s", "1s")]
        [timeout] = {
            one["values"]["timeout"]
            for one in of_type(applied.resources, "aws_lambda_function")
            if one["values"]["handler"] == "roost.hosting.lambda_worker.handler"
        }
        async with (
            container("lambda_worker", environ["workers"]) as worker,
            container("lambda_sweeper", environ["sweeper"]) as sweeper,
            asyncio.timeout(SECONDS),
        ):
            for work_id in ids:
                while '"state": "done"' not in roost(client, folder, "status", work_id, "--json"):
                    await source.drive(worker, seconds=timeout)
                    await asyncio.sleep(0.2)
            answer = await sweeper.invoke(schedule_event(), seconds=60)
        if set(answer["reply"]) != {"swept", "expired"}:
            raise Failed(f"the sweeper answered {answer}")
    finally:
        await clients.close()


def check_namespaces(applied: Applied, standin: StandIn, folder: Path) -> None:
    """Two teams enqueue under one id and see their own; one worker does both."""
    client = environ_of(standin, client_environ(applied), folder)
    for team in ("search", "billing"):
        theirs = {**client, "ROOST_NAMESPACE": team}
        roost(theirs, folder, "enqueue", "--engine", "demo", "--payload", '{"count": 1}')
    roost(client | {"ROOST_NAMESPACE": "search"}, folder, "worker", "--engines", "demo", "--until-idle")
    for team in ("search", "billing"):
        listed = json.loads(roost({**client, "ROOST_NAMESPACE": team}, folder, "list", "--json"))["rows"]
        if len(listed) != 1 or not re.match(f"{team}/", listed[0]["work_id"]):
            raise Failed(f"team {team} sees {listed}")
