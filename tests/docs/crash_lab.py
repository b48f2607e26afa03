"""A world of one crash: who may die where, and a record of what is seen of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from roost import Child, FailWork, Join, RetryLater, RetryPolicy, Snapshot, WaitFor, WorkItem, current_step
from roost.core.client import Client
from roost.core.heartbeat import Heartbeat
from roost.core.parts import CoreSettings, Parts
from roost.core.session import Session
from roost.errors import ConflictError, WorkNotFound
from roost.journal.entries import Entry
from roost.journal.events import Committed
from roost.storage.instrument import InstrumentedBackend, When
from roost.storage.ports import Message
from roost.testing.driver import Driver, Killed, LabProcess
from roost.testing.safety import World


class Probe:
    """Does what its payload's script says, an action a step, and tells the lab of each."""

    engine_id = "probe"
    retry = RetryPolicy(max_attempts=3, first_delay_seconds=1.0)

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._seen: set[str] = set()

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step=item.payload["script"][0], data={"done": 0})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        name, lab = snapshot.step, self._lab
        await lab.note(f"· step `{name}` runs", item.work_id, what=f"step `{name}`")
        directives = await self._act(name, item)
        script, done = item.payload["script"], snapshot.data["done"] + 1
        if done == len(script):
            return snapshot.finish(data={"done": done})
        return snapshot.next(script[done], data={"done": done}, **directives)

    def _first_time(self, what: str) -> bool:
        is_first = what not in self._seen
        self._seen.add(what)
        return is_first

    async def _act(self, name: str, item: WorkItem) -> dict[str, Any]:
        lab, context = self._lab, current_step()
        match name:
            case "mail":
                await context.once("mail", lambda: self._mail(item.work_id))
            case "fail" if self._first_time("fail"):
                raise ValueError("no")
            case "later" if self._first_time("later"):
                raise RetryLater(after=60)
            case "give up" if self._first_time("give up"):
                raise FailWork("no")
            case "file":
                await context.artifacts.put("a.txt", "a")
            case "die" if self._first_time("die"):
                lab.driver.process.kill()
                await context.artifacts.put("a.txt", "a")
            case "be told to stop" if lab.session is not None:
                lab.session.abandon()
                await asyncio.sleep(1)
            case "meet a rival":
                await lab.rival(item.work_id)
            case "take long" if lab.session is not None:
                await Heartbeat(lab.driver.process.parts, [lab.session]).beat()
            case "sleep":
                return {"delay": 3600.0}
            case "nap":
                return {"delay": 60.0}
            case "wait":
                return {"wait_for": "go"}
            case "spawn":
                children = [Child(engine="probe", payload={"script": ["one"]}) for _ in range(2)]
                return {"spawn": children, "wait_for": WaitFor(children=Join())}
        return {}

    async def _mail(self, work_id: str) -> str:
        await self._lab.note("· a mail is sent", work_id, what="the mail")
        return "sent"


@dataclass
class Lab:
    """One run of a story: the world, who may die, and what is seen of it.

    Attributes:
        name, when: the crash point.
        lines: what was seen: seconds since the start, the work's id, a text.
        done: how often each thing was done by engines.
    """

    world: World
    name: str
    when: When
    driver: Driver = field(init=False)
    session: Session | None = None
    lines: list[tuple[float, str, str]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    who: str = "worker-1"
    is_armed: bool = True
    has_died: bool = False
    _dying: Callable[[], None] = lambda: None
    _cursor: str | None = None
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        world = self.world
        self.driver = Driver(world.backend, world.clock, world.ids, [Probe(self)], pass_time=world.pass_time)
        self.client = Client(Parts(world.backend, world.clock, world.ids), actor="client")
        self._start = world.clock.now()
        self.driver._count = 0
        self.mortal_worker()

    # --- who may die ---------------------------------------------------------

    def mortal_worker(self, settings: CoreSettings | None = None) -> LabProcess:
        """A worker that does all work from now on, until it dies at the crash point."""
        process = self.driver.start(self._hook)
        process.name = self.who
        if settings is not None:
            process.parts = replace(process.parts, settings=settings)
        self._dying = process.kill
        return process

    @property
    def mortal_client(self) -> Client:
        """A program that dies at the crash point."""
        self.who, self._dying = "client", lambda: None
        self.driver.start()  # the worker lives
        self.driver.process.name = "worker-1"
        return Client(self.parts(CoreSettings()), actor="client")

    def parts(self, settings: CoreSettings) -> Parts:
        backend = InstrumentedBackend(self.world.backend, self._hook)
        return Parts(backend, self.world.clock, self.world.ids, settings)

    async def _hook(self, when: When, call: str, detail: str) -> None:
        if not self.is_armed or self.has_died or when != self.when or self.name not in (call, detail):
            return
        self.has_died = True
        await self.note(f"X {self.who} dies")
        self._dying()
        raise Killed

    # --- what is seen --------------------------------------------------------

    async def note(self, text: str, work_id: str = "", *, what: str = "") -> None:
        """Put down a line, after the entries that came before it."""
        await self._pull()
        if what:
            self.done[f"{what} of {work_id}"] += 1
            text += ", again" if self.done[f"{what} of {work_id}"] > 1 else ""
        self.lines.append((self.world.clock.now() - self._start, work_id, text))

    async def _pull(self) -> None:
        page = await self.world.backend.journal.feed(self._cursor, limit=1000)
        self._cursor = page.cursor or self._cursor
        for entry in page.entries:
            self.entries.append(entry)
            version = f" v{entry.event.version}" if isinstance(entry.event, Committed) else ""
            text = f"{entry.position} {entry.event.kind}{version}, {_short(entry.actor)}"
            self.lines.append((entry.at - self._start, entry.work_id, text))

    # --- what happens --------------------------------------------------------

    async def enqueue(self, work_id: str, *script: str, **options: Any) -> None:
        """Enqueue work, by a client that lives."""
        await self.client.enqueue("probe", {"script": list(script)}, work_id=work_id, **options)

    async def mortally(self, call: Callable[[Client], Awaitable[object]]) -> None:
        """A call by a client that dies in it, and then the same by one that lives: no answer had come."""
        with suppress(Killed):
            await call(self.mortal_client)
        await self.note("· the caller tries again")
        with suppress(ConflictError, WorkNotFound):
            await call(self.client)

    async def to_end(self) -> None:
        """Let workers do what is to be done, at the instants at which it is due."""
        driver = self.driver
        await driver.work()
        for _ in range(300):  # a row that is looked at again comes due every 50 ms here
            next_at = await driver.next_at()
            if next_at is None:
                break
            await driver.jump_to(next_at)
        await self._pull()

    async def one_session(self) -> None:
        """Run one session that steps can reach; its worker works no more after it."""
        process = self.driver.process
        [delivery] = await process.receive()
        self.session = Session(
            process.parts, self.driver.engines, process.name, delivery, is_draining=lambda: False
        )
        with suppress(Killed):
            await self.session.run()
        self.session.close()
        self.session = None
        self.driver.start()

    async def wait(self, seconds: float) -> None:
        await self.driver.pass_time(seconds)

    async def rival(self, work_id: str) -> None:
        """Another worker gets a second delivery of work that is held, and dies of it."""
        message = Message(work_id, 0, next(iter(self.entries)).control.lane)
        if self.has_died:
            return
        await self.world.backend.queue.send([message])
        holder, self.who, self.is_armed = self.driver.process, "worker-2", True
        rival = self.mortal_worker()
        with suppress(Killed):
            for delivery in await rival.receive():
                await rival.run(delivery)
        self.driver.process = holder


def _short(actor: str) -> str:
    return actor.replace("sweeper:", "sweeper of ")
