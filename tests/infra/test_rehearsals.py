"""What the operations guide tells platform engineers to do, done: move, restore, upgrade.

With the commands of the guide, real workers, and live work; nothing is lost or done twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import boto3
import pytest

from roost.config import AwsSettings, Settings
from roost.models import State
from roost.storage.query import IndexQuery
from roost.testing.standins import StandIn
from roost.wiring import Runtime, open_runtime
from tests.crash.fleet import check_done
from tests.standins.harness import SHARDS, make_stack, point_sdk_at

pytestmark = [pytest.mark.soak, pytest.mark.crash]
ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 6.0  # on a machine with much to do, a beat may be seconds late
SECONDS = 180.0
STEPS = 4
_numbers = count(1)


class Site:
    """Stacks on a stand-in, and programs that use them.

    Attributes:
        ledger: the file in which the engine writes down what it does.
    """

    def __init__(self, standin: StandIn, folder: Path) -> None:
        self._standin = standin
        self._folder = folder
        self.ledger = folder / "ledger.jsonl"

    def environ(self, stack: AwsSettings, **more: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **kept,
            **self._standin.environ,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "PYTHONPATH": str(ROOT),
            "ROOST_HOME": str(self._folder),
            "ROOST_STORAGE": f"aws:{stack.stack}",
            "ROOST_AWS__BUCKET": str(stack.bucket),
            "ROOST_AWS__SHARDS": str(SHARDS),
            "ROOST_AWS__APPENDS_IN_FLIGHT": "256",
            "ROOST_WORKER__ENGINES": "tests.infra.rehearsed:Counting",
            "ROOST_WORKER__SWEEP_SECONDS": "0.5",
            "ROOST_LEASE_SECONDS": str(LEASE_SECONDS),
            "ROOST_TESTING": "true",
            "ROOST_CLOCK_OFFSET_SECONDS": str(self._standin.ahead_seconds),
            **more,
        }

    def roost(self, stack: AwsSettings, *arguments: str, **environ: str) -> str:
        """What a command printed; it must end well."""
        done = subprocess.run(
            [sys.executable, "-m", "roost", *arguments],
            env=self.environ(stack, **environ),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def worker(self, stack: AwsSettings, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker's process; it must drain by SIGTERM at the end."""
        with (self._folder / f"worker-{next(_numbers)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "roost", "worker"], env=self.environ(stack, **environ), stderr=log
            )
        try:
            yield process
            if process.poll() is None:
                drain(process)
        finally:
            process.kill()
            process.wait()

    @asynccontextmanager
    async def opened(self, stack: AwsSettings, namespace: str = "") -> AsyncIterator[Runtime]:
        settings = Settings(
            storage=f"aws:{stack.stack}",
            aws=stack.model_copy(update={"appends_in_flight": 256}),
            namespace=namespace,
            testing=True,
            clock_offset_seconds=self._standin.ahead_seconds,
        )
        async with open_runtime(settings) as runtime:
            yield runtime

    async def enqueue(self, runtime: Runtime, number: int, **payload: object) -> list[str]:
        """Work of some steps; every third sleeps between two of them."""
        client = runtime.client
        return [
            await client.enqueue(
                "counting",
                {
                    "path": str(self.ledger),
                    "steps": STEPS,
                    "seconds": 0.2,
                    "delay": 2.0 * (n % 3 == 0),
                    **payload,
                },
            )
            for n in range(number)
        ]

    def begun(self) -> Counter[tuple[str, int]]:
        """How often each step was begun."""
        if not self.ledger.exists():
            return Counter()
        lines = map(json.loads, self.ledger.read_text().splitlines())
        return Counter((line["work"], line["version"]) for line in lines if line["what"] == "begin")


def drain(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


async def until_done(runtime: Runtime, ids: list[str]) -> None:
    end = time.monotonic() + SECONDS
    for work_id in ids:
        while (await runtime.client.control(work_id)).state is not State.DONE:
            assert time.monotonic() < end, await runtime.client.control(work_id)
            await asyncio.sleep(0.2)


async def until_begun(site: Site, number: int) -> None:
    end = time.monotonic() + SECONDS
    while len(site.begun()) < number:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


@pytest.fixture
def site(ministack: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    point_sdk_at(ministack, monkeypatch)
    return Site(ministack, tmp_path)


async def test_a_namespace_moves_to_another_stack_while_another_goes_on(site: Site) -> None:
    """`operations.md`, "Move a namespace"."""
    old, new = await make_stack(f"old{next(_numbers)}"), await make_stack(f"new{next(_numbers)}")
    with site.worker(old):
        async with site.opened(old, "search") as theirs, site.opened(old, "billing") as others:
            moving, staying = await site.enqueue(theirs, 6), await site.enqueue(others, 6)
            await until_begun(site, 8)
            said = site.roost(
                old,
                *("move", "--to", f"aws:{new.stack}", "--to-bucket", str(new.bucket), "--json"),
                ROOST_NAMESPACE="search",
            )
            assert json.loads(said)["work"] == 6
            await until_done(others, staying)
        with site.worker(new):
            async with site.opened(new, "search") as there:
                await until_done(there, moving)
                for work_id in moving:
                    await check_done(there, work_id, STEPS)
    assert set(site.begun().values()) == {1}, "no step ran twice"
    assert len(site.begun()) == 12 * STEPS


async def test_a_stack_is_restored_and_its_work_goes_on(
    moto: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`operations.md`, "Back up and restore": each table at another instant, as the worst case."""
    point_sdk_at(moto, monkeypatch)
    site, old = Site(moto, tmp_path), await make_stack(f"old{next(_numbers)}")
    new = old.model_copy(update={"stack": f"restored{next(_numbers)}"})
    dynamodb = boto3.client("dynamodb")

    def restore(which: str) -> None:
        dynamodb.restore_table_to_point_in_time(
            SourceTableName=f"{old.stack}-{which}", TargetTableName=f"{new.stack}-{which}"
        )

    with site.worker(old):
        async with site.opened(old) as before:
            ids = await site.enqueue(before, 5)
            await until_begun(site, 4)
            restore("claims")
            restore("index")
            ids += await site.enqueue(before, 3)  # in the journal, and in no row of the index
            await until_begun(site, 9)
            restore("journal")
    site.roost(new, "aws", "create", "--stack", new.stack)
    said = json.loads(site.roost(new, "aws", "reindex", "--stack", new.stack, "--json"))
    assert said["journals"] == 8
    assert said["missing"] == 3
    found = json.loads(site.roost(new, "doctor", "--json"))
    assert all(one["is_ok"] for one in found if one["name"].startswith(("table", "queue")))
    with site.worker(new):
        async with site.opened(new) as after:
            await until_done(after, ids)
            for work_id in ids:
                await check_done(after, work_id, STEPS)


async def test_an_upgrade_with_old_and_new_workers_side_by_side_loses_nothing(site: Site) -> None:
    """`operations.md`, "Upgrade": new workers start, old ones drain, work goes on with the new."""
    stack = await make_stack(f"upgraded{next(_numbers)}")
    async with site.opened(stack) as runtime:
        with (
            site.worker(stack, COUNTING_VERSION="1") as one,
            site.worker(stack, COUNTING_VERSION="1") as other,
        ):
            ids = await site.enqueue(runtime, 8)
            await until_begun(site, 10)
            with site.worker(stack, COUNTING_VERSION="2"):
                ids += await site.enqueue(runtime, 4)
                await until_begun(site, 18)
                drain(one)
                drain(other)
                await until_done(runtime, ids)
        versions = Counter[str]()
        for work_id in ids:
            await check_done(runtime, work_id, STEPS)
            view = await runtime.client.status(work_id)
            assert view.control.failures == view.control.interruptions == 0
            assert view.snapshot is not None
            versions[view.snapshot.data["version"]] += 1
        assert versions["2"], "the new version took work over"
        rows = (await runtime.client.list(IndexQuery())).rows
        assert {row.state for row in rows} == {State.DONE}
    assert set(site.begun().values()) == {1}, "a drain costs no step"
