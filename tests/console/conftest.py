"""The console under test: in this process over a memory backend, with a clock that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from roost.config import ApprovalSettings, ConsoleSettings, Settings
from roost.console.app import create_app
from roost.console.guard import Guard
from roost.core.operating import OperationEngine
from roost.engine import EngineRegistry, RetryPolicy
from roost.engines.demo import DemoEngine
from roost.models import Snapshot, WorkItem
from roost.wiring import Runtime, open_runtime

T = TypeVar("T")
Front = Callable[[Guard], ASGIApp]


class Scripted:
    """An engine that does what its payload says, step by step.

    `steps`: a list of `data` to commit; `say` logs, `fail` raises with that text, `delay` waits so long,
    `artifacts` stores (name, text, type), `ask` asks for an approval of that shape.
    """

    engine_id = "scripted"
    engine_version = "2.1"
    retry = RetryPolicy(max_attempts=1)

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step="begin", data={"n": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        from roost import current_step

        steps = item.payload.get("steps", [])
        place = snapshot.data["n"]
        if place >= len(steps):
            return snapshot.finish(data={"n": place})
        step = steps[place]
        if "say" in step:
            current_step().log.warning("%s", step["say"])
        if "fail" in step:
            raise TimeoutError(step["fail"])
        for name, text, media_type in step.get("artifacts", []):
            await current_step().artifacts.put(name, text, content_type=media_type)
        if "ask" in step:
            ask = current_step().ask("refund", reply=step["ask"] or None)
            waits = ask.wait(timeout_seconds=step.get("within", 3600.0))
            return snapshot.next("asked", data={"n": place + 1}, wait_for=waits)
        return snapshot.next(
            step.get("step", "work"),
            data={**step.get("data", {}), "n": place + 1},
            delay=step.get("delay", 0.0),
        )


@dataclass
class Desk:
    """A console with what is behind it; everything runs on one event loop.

    Attributes:
        front: what stands before the app.
        web: a browser of sorts; by default an operator on this machine.
    """

    runtime: Runtime
    app: Guard
    loop: asyncio.AbstractEventLoop
    settings: Settings
    front: Front
    web: TestClient = field(init=False)

    def __post_init__(self) -> None:
        self.web = self.browser()

    def browser(self, **headers: str) -> TestClient:
        """Another browser, with headers of its own."""
        return TestClient(
            self.front(self.app),
            base_url="http://127.0.0.1:8319",
            headers={"Accept": "text/html", **headers},
            client=("127.0.0.1", 5000),
            follow_redirects=False,
        )

    def run(self, call: Awaitable[T]) -> T:
        """Wait for a coroutine."""
        return self.loop.run_until_complete(call)  # type: ignore[arg-type,no-any-return]

    def enqueue(self, *steps: dict[str, Any], engine: str = "scripted", **options: Any) -> str:
        """New work; its id."""
        return self.run(self.runtime.client.enqueue(engine, {"steps": list(steps)}, **options))

    def work(self) -> None:
        """Run a worker until nothing is left that could go on now."""
        self.run(_work(self.runtime))
        self.app_desk.shared.forget()

    @property
    def app_desk(self) -> Any:
        """The desk of the app itself."""
        return self.app.app.state.desk  # type: ignore[attr-defined]


async def _work(runtime: Runtime) -> None:
    worker = runtime.worker("w-1")
    task = asyncio.create_task(worker.run())
    quiet = 0
    while quiet < 3:
        await asyncio.sleep(0.01)
        busy = worker.sessions or await runtime.backend.queue.backlog()
        quiet = 0 if busy else quiet + 1
    worker.drain()
    await task


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Runtime]:
    """A runtime with the engines of these tests."""
    async with open_runtime(settings) as runtime:
        registry = EngineRegistry([Scripted(), DemoEngine(), OperationEngine(runtime.parts)])
        yield Runtime(runtime.backend, runtime.parts, registry, runtime.actor, runtime.namespace)


Make = Callable[..., Desk]


@pytest.fixture
def front() -> Front:
    """Nothing; `tests/hosting/test_console.py` puts API Gateway before the app."""
    return lambda app: app


@pytest.fixture
def make(tmp_path: Path, front: Front) -> Iterator[Make]:
    """Makes consoles; `console` are fields of the settings' table of that name."""
    loop = asyncio.new_event_loop()
    stack: list[Any] = []

    def build(*, storage: str = "memory:", namespace: str = "", root_path: str = "", **console: Any) -> Desk:
        settings = Settings(
            storage=storage,
            home=tmp_path,
            namespace=namespace,
            console=ConsoleSettings(**console),
            approvals=ApprovalSettings(signing_secret="a secret for tests"),
        )
        context = opened(settings)
        runtime = loop.run_until_complete(context.__aenter__())
        stack.append(context)
        app = create_app(runtime, settings, root_path=root_path)
        return Desk(runtime, app, loop, settings, front)

    yield build
    for context in stack:
        loop.run_until_complete(context.__aexit__(None, None, None))
    loop.close()


@pytest.fixture
def desk(make: Make) -> Desk:
    return make()


def main_of(page: str) -> str:
    """What is in the main part of a page."""
    return page[page.index("<main") : page.index("</main>")]
