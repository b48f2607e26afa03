"""Faults on the wire between real worker processes and AWS: all work is done, and nobody hears of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError

from roost.clock import SystemClock, SystemIds
from roost.errors import StorageError, StorageUnavailable
from roost.storage.aws.faults import Patience, is_passing, storage_errors
from roost.testing.standins import StandIn
from tests.aws.faults import KINDS, start_faults
from tests.aws.test_aws_kill import is_done, on_aws, work
from tests.crash.fleet import Fleet, check_done, overlaps, until
from tests.standins.harness import point_sdk_at

SHARE = 0.1
SECONDS = 240.0  # a bound for a busy machine; a quiet one takes a twentieth of it
STEPS = 5


@pytest.mark.parametrize("code", ["ThrottlingException", "AWS.SimpleQueueService.ThrottlingException"])
def test_throttling_passes_however_it_is_spelled(code: str) -> None:
    assert is_passing(ClientError({"Error": {"Code": code}}, "DeleteMessageBatch"))
    gone = "AWS.SimpleQueueService.NonExistentQueue"
    assert not is_passing(ClientError({"Error": {"Code": gone}}, "DeleteMessageBatch"))


class Hasty(SystemClock):
    """A clock on which nobody sleeps."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidSignatureException", "Signature expired: 20261126T120000Z is now earlier than …"),
        ("SignatureDoesNotMatch", "Signature not yet current: 20261126T120000Z is still later than …"),
        ("RequestTimeTooSkewed", "The difference between the request time and … is too large."),
        ("RequestExpired", "Request has expired."),
    ],
)
async def test_a_signature_that_is_too_old_is_made_anew_and_no_fault_of_the_credentials(
    code: str, message: str
) -> None:
    """A process that stood still between signing and sending would have been told so."""
    error = ClientError({"Error": {"Code": code, "Message": message}}, "PutItem")
    outcomes: list[ClientError | None] = [error, None]

    async def call() -> str:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome
        return "done"

    patience = Patience(Hasty(), SystemIds())
    assert await patience.call("PutItem", call) == "done"
    outcomes = [error] * 8
    with pytest.raises(StorageUnavailable) as caught:
        await patience.call("PutItem", call)
    assert "clock" in caught.value.hint


def test_a_wrong_key_is_no_skew() -> None:
    error = {"Code": "SignatureDoesNotMatch", "Message": "The request signature we calculated does not match"}
    with pytest.raises(StorageError) as caught, storage_errors("PutItem"):
        raise ClientError({"Error": error}, "PutItem")
    assert "credentials" in caught.value.hint


async def test_credentials_that_are_not_given_out_for_a_moment_are_asked_for_again() -> None:
    """The metadata service of a machine or task answers late now and then."""
    outcomes = [CredentialRetrievalError(provider="container-role", error_msg="timed out"), None]

    async def call() -> str:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome
        return "done"

    assert await Patience(Hasty(), SystemIds()).call("PutItem", call) == "done"


async def roost(fleet: Fleet, *arguments: str) -> Any:
    """What a command prints as JSON; it must succeed and complain of nothing."""
    command = [sys.executable, "-m", "roost", *arguments, "--json"]
    environ = {**os.environ, **fleet.environ}
    done = await asyncio.to_thread(
        subprocess.run, command, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), (arguments, done.stderr)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "items", "workers"),
    [pytest.param(*one, marks=pytest.mark.soak) for one in ((1, 16, 2), (2, 60, 2), (3, 60, 3))],
)
async def test_all_work_is_done_over_a_bad_wire(
    ministack: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int, items: int, workers: int
) -> None:
    """A tenth of all calls fails: 500s, throttling, timeouts and resets, replies lost, cut off or late."""
    point_sdk_at(ministack, monkeypatch)
    with start_faults(ministack, tmp_path, seed=seed) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        async with on_aws(ministack, tmp_path, AWS_ENDPOINT_URL=wire.url, ROOST_DEBUG="1") as (
            fleet,
            runtime,
        ):
            wire.rain(SHARE)
            for _ in range(workers):
                fleet.start()
            works = [
                work(fleet, steps=STEPS, seconds=0.01, resources=(f"r{n % 3}",) if n % 3 == 0 else ())
                for n in range(items)
            ]
            ids = list(await runtime.client.enqueue_many(works))
            payload = json.dumps(work(fleet, steps=STEPS, seconds=0.01).payload)
            command = ("enqueue", "--engine", "ledger", "--payload", payload, "--any-engine")
            ids.append((await roost(fleet, *command))["work_id"])
            await until(lambda: is_done(runtime, ids), runtime, seconds=SECONDS)
            await asyncio.gather(roost(fleet, "list"), roost(fleet, "status", ids[-1]))
            wire.calm()
            seen = wire.seen()
            assert seen.keys() >= KINDS, seen
            assert seen["calls"] * SHARE * 0.5 < seen.total() - seen["calls"], "fewer faults than meant"
            for work_id in ids:
                await check_done(runtime, work_id, STEPS)
            assert overlaps(fleet.records(), fleet.killed_at) == []
            for pid in fleet.pids:
                assert fleet.is_alive(pid), fleet.log(pid)
                levels = {json.loads(line)["level"] for line in fleet.log(pid).splitlines()}
                assert levels <= {"info", "warning"}, fleet.log(pid)
