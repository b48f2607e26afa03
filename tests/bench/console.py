"""The console's pages at many work items: `python -m tests.bench.console [COUNT]`.

Each figure is the best of five requests that no cache answers, in this process, over the
embedded store.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import httpx2

from roost import Snapshot, WorkItem
from roost.config import ConsoleSettings, Settings
from roost.console.app import create_app
from roost.core.new_work import NewWork
from roost.engine import EngineRegistry
from roost.wiring import Runtime, open_runtime

COUNT = 100_000
LONG_STEPS = 10_000
PATHS = (
    "/work",
    "/work?q=state:queued",
    "/work?q=engine:large",
    "/work?sort=due",
    "/work?sort=updated",
    "/work?sort=since&q=state:queued",
    "/work?sort=failures&q=-lane:high",
    "/work?sort=updated&q=nothing",
    "/work?q=nothing",
    "/",
    "/failed",
    "/operations",
    "/artifacts",
    "/work?q=-lane:high+attempts<1",
    "/events",
)


class Large:
    """Many steps, or one with a snapshot of 5 MB."""

    engine_id = "large"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, data={"n": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        n = snapshot.data["n"] + 1
        data = {"n": n, **({"blob": ["x" * 50] * 100_000} if item.payload.get("blob") else {})}
        if n >= item.payload["steps"]:
            return snapshot.finish(data=data)
        return snapshot.next("count", data=data)


async def best(web: httpx2.AsyncClient, path: str) -> tuple[float, float, int]:
    """Milliseconds, those of them on the processor, and bytes."""
    times, cpu_times, size_bytes = [], [], 0
    for _ in range(5):
        app_desk(web).shared.forget()
        started, cpu_started = time.perf_counter(), time.process_time()
        answer = await web.get(path)
        times.append((time.perf_counter() - started) * 1000)
        cpu_times.append((time.process_time() - cpu_started) * 1000)
        assert answer.status_code == 200, answer.text
        size_bytes = len(answer.content)
    return min(times), min(cpu_times), size_bytes


def app_desk(web: httpx2.AsyncClient) -> object:
    return web._transport.app.app.state.desk  # type: ignore[attr-defined]


async def work(runtime: Runtime, work_ids: list[str]) -> None:
    worker = runtime.worker("bench")
    task = asyncio.create_task(worker.run())
    for work_id in work_ids:
        while not (await runtime.client.control(work_id)).state.is_terminal:
            await asyncio.sleep(0.05)
    worker.drain()
    await task


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), console=ConsoleSettings())
        async with open_runtime(settings) as opened:
            engines = EngineRegistry([Large()])
            runtime = Runtime(opened.backend, opened.parts, engines)
            large = [NewWork("large", {"steps": LONG_STEPS}), NewWork("large", {"steps": 2, "blob": True})]
            ids = list(await runtime.client.enqueue_many(large))
            await work(runtime, ids)
            for start in range(0, count, 10_000):
                part = [NewWork("demo", {"n": n}) for n in range(start, min(start + 10_000, count))]
                await runtime.client.enqueue_many(part)
            transport = httpx2.ASGITransport(create_app(runtime, settings), client=("127.0.0.1", 1))
            headers = {"Accept": "text/html"}
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://127.0.0.1", headers=headers
            ) as web:
                print(f"{'page':<44}{'ms':>8}{'CPU ms':>8}{'kB':>8}   at {count} work items")
                details = [f"/work/{ids[0]}", f"/work/{ids[0]}?v=5000&tab=changes", f"/work/{ids[1]}"]
                names = [f"{LONG_STEPS} entries", f"{LONG_STEPS} entries, version 5000", "5 MB snapshot"]
                for path, name in zip([*PATHS, *details], [*PATHS, *names], strict=True):
                    ms, cpu_ms, size_bytes = await best(web, path)
                    print(f"{name:<44}{ms:>8.1f}{cpu_ms:>8.1f}{size_bytes / 1000:>8.1f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT))
