"""What happens around each named crash point: one story for each name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from unittest.mock import patch

from roost.core.client import Client
from roost.core.parts import CoreSettings, Parts
from roost.core.sweeper import Sweeper
from roost.journal import retention
from roost.journal.limits import SetCapacity
from roost.names import Scope
from roost.rules import Trigger
from roost.testing.driver import LEASE_SECONDS, Killed
from tests.docs.crash_lab import Lab

Tell = Callable[[Lab], Coroutine[Any, Any, None]]
STORIES: dict[str, tuple[str, Tell]] = {}


def story(about: str, *names: str) -> Callable[[Tell], Tell]:
    """Register what is told of these crash points."""

    def register(tell: Tell) -> Tell:
        STORIES.update(dict.fromkeys(names, (about, tell)))
        return tell

    return register


@story(
    "A client enqueues work: the entry at position 0, with its row; then the first delivery.",
    "enqueued",
    "send",
)
async def _enqueue(lab: Lab) -> None:
    await lab.mortally(lambda client: client.enqueue("probe", {"script": ["one"]}, work_id="w"))
    await lab.to_end()


@story("A worker asks the queue for deliveries.", "receive")
@story(
    "A worker takes the lease: its claim is an append, whose position is the fencing token.",
    "claimed",
    "append",
)
@story("A worker commits a step: the snapshot and the event are one entry.", "committed")
@story("A worker writes the index row at the end of its lease.", "index_put")
@story("A worker is done with a delivery.", "acknowledge")
async def _plain(lab: Lab) -> None:
    await lab.enqueue("w", "one", "two")
    await lab.to_end()


@story("A step writes down the result of a side effect, by `once`.", "recorded")
async def _once(lab: Lab) -> None:
    await lab.enqueue("w", "mail")
    await lab.to_end()


@story("A step stores an artifact, which its commit names.", "artifact_put")
async def _artifact(lab: Lab) -> None:
    await lab.enqueue("w", "file")
    await lab.to_end()


@story("A step raised; the attempt is written down.", "attempt_failed")
async def _fail(lab: Lab) -> None:
    await lab.enqueue("w", "fail")
    await lab.to_end()


@story("A step raised `RetryLater`.", "deferred")
async def _later(lab: Lab) -> None:
    await lab.enqueue("w", "later")
    await lab.to_end()


@story("A step raised `FailWork`.", "failed")
async def _give_up(lab: Lab) -> None:
    await lab.enqueue("w", "give up")
    await lab.to_end()


@story("Work sleeps for an hour; a sweeper takes its due row, and sends a delivery.", "take_due")
async def _sleep(lab: Lab) -> None:
    await lab.enqueue("w", "sleep", "one")
    await lab.to_end()


@story("A worker takes the resources of a step.", "acquire")
@story("A worker gives resources back between two steps (scope `step`).", "release")
@story("Work ends, and gives up all that it holds.", "leave")
async def _resources(lab: Lab) -> None:
    await lab.enqueue("w", "nap", "one", resources=("r",))
    await lab.to_end()


@story("Work finds its resource taken, and says so.", "blocked")
@story("Work that was blocked looks once more whether it has been called meanwhile.", "is_called")
async def _blocked(lab: Lab) -> None:
    lab.is_armed = False
    await lab.enqueue("other", "wait", "one", resources=("r",), resource_scope=Scope.WORK)
    await lab.driver.work()
    lab.is_armed = True
    await lab.enqueue("w", "one", resources=("r",))
    await lab.driver.work()
    await lab.wait(LEASE_SECONDS)
    await lab.client.signal("other", "go", None)
    await lab.to_end()


@story("An operator gives a resource more room; who waits for it is called, then woken.", "change")
async def _change(lab: Lab) -> None:
    lab.is_armed = False
    await lab.enqueue("other", "wait", "one", resources=("r",), resource_scope=Scope.WORK)
    await lab.enqueue("w", "one", resources=("r",))
    await lab.driver.work()
    lab.is_armed = True
    await lab.mortally(lambda client: client.change_resource("r", SetCapacity(2)))
    await lab.driver.work()
    await lab.client.signal("other", "go", None)
    await lab.to_end()


@story(
    "A worker that needs a resource finds its owner dead, and evicts it in the owner's journal.", "evicted"
)
async def _evict(lab: Lab) -> None:
    lab.is_armed = False
    await lab.enqueue("dead", "die", resources=("r",))
    await lab.driver.work()
    await lab.note("· worker-1 died in the step of `dead`")
    await lab.wait(LEASE_SECONDS + 1)
    lab.who, lab.is_armed, lab.driver._count = "worker-2", True, 1
    lab.mortal_worker()
    await lab.enqueue("w", "one", resources=("r",), priority=1)
    await lab.to_end()


@story("A worker is told to stop in the middle of a step, and hands its lease back.", "released")
async def _release(lab: Lab) -> None:
    await lab.enqueue("w", "be told to stop")
    await lab.one_session()
    await lab.to_end()


@story("Somebody asked for the work to end; a worker ends it.", "cancelled")
async def _cancelled(lab: Lab) -> None:
    await lab.enqueue("w", "wait", "one")
    await lab.driver.work()
    await lab.client.cancel("w", "enough")
    await lab.to_end()


@story("A second delivery of work that is held; the worker that gets it puts it back.", "put_back")
async def _put_back(lab: Lab) -> None:
    lab.is_armed = False
    await lab.enqueue("w", "meet a rival")
    await lab.to_end()


@story(
    "A worker's heartbeat renews its lease while a step runs (on `local`, where rows are renewed).", "renew"
)
async def _renew(lab: Lab) -> None:
    await lab.enqueue("w", "take long")
    await lab.one_session()
    await lab.to_end()


@story("A signal is sent, to work that waits for it.", "signaled")
async def _signal(lab: Lab) -> None:
    await lab.enqueue("w", "wait", "one")
    await lab.driver.work()
    await lab.mortally(lambda client: client.signal("w", "go", None, signal_id="s-1"))
    await lab.to_end()


@story("An operator cancels work that waits.", "cancel_requested")
async def _cancel(lab: Lab) -> None:
    await lab.enqueue("w", "wait", "one")
    await lab.driver.work()
    await lab.mortally(lambda client: client.cancel("w", "enough"))
    await lab.to_end()


@story("An operator puts work on hold.", "paused")
async def _pause(lab: Lab) -> None:
    await lab.enqueue("w", "nap", "one")
    await lab.driver.work()
    await lab.mortally(lambda client: client.pause("w", "hold"))
    await lab.wait(120)
    await lab.client.resume("w", "go on")
    await lab.to_end()


@story("An operator lets work go on that is on hold.", "resumed")
async def _resume(lab: Lab) -> None:
    await lab.enqueue("w", "nap", "one")
    await lab.driver.work()
    await lab.client.pause("w", "hold")
    await lab.wait(120)
    await lab.mortally(lambda client: client.resume("w", "go on"))
    await lab.to_end()


@story("Work has used up its budget; an operator allows more.", "budget_set")
async def _budget(lab: Lab) -> None:
    await lab.enqueue("w", "one", "two", budget={"steps": 1})
    await lab.driver.work()
    await lab.mortally(lambda client: client.set_budget("w", {"steps": 5}, "worth it"))
    await lab.to_end()


@story("An operator has failed work tried again.", "retried")
async def _retry(lab: Lab) -> None:
    await lab.enqueue("w", "give up")
    await lab.driver.work()
    await lab.mortally(lambda client: client.retry("w", "mended"))
    await lab.to_end()


@story("An operator pauses an engine: one entry in the journal of switches.", "switched")
async def _switch(lab: Lab) -> None:
    await lab.mortally(lambda client: client.pause_engine("probe", "bad release"))
    await lab.enqueue("w", "one")
    await lab.driver.work()
    await lab.client.resume_engine("probe", "mended")
    await lab.to_end()


@story("A commit asked for children; its effect starts them.", "append_many")
@story("A child's end is reported in its parent's journal.", "child_ended")
@story("The effects of an entry are done, and its journal says so.", "settled")
async def _children(lab: Lab) -> None:
    await lab.enqueue("w", "spawn", "one")
    await lab.to_end()


@story("A client enqueues under a conversation: a place in its line is one append.", "turn_taken")
async def _turn_taken(lab: Lab) -> None:
    await lab.mortally(
        lambda client: client.enqueue("probe", {"script": ["one"]}, work_id="w", conversation="room")
    )
    await lab.to_end()


@story("Work of a conversation has ended and leaves the line.", "turn_ended")
@story("The next in the line of a conversation is given the turn.", "turn_given")
async def _turns(lab: Lab) -> None:
    await lab.enqueue("a", "one", conversation="room")
    await lab.enqueue("b", "one", conversation="room")
    await lab.to_end()


@story("A client enqueues under an idempotency key with a time: the key is bound by one append.", "key_bound")
async def _key(lab: Lab) -> None:
    ids = []

    async def enqueue(client: Client) -> None:
        ids.append(
            await client.enqueue(
                "probe", {"script": ["one"]}, idempotency_key="k", idempotency_seconds=3600.0
            )
        )

    await lab.mortally(enqueue)
    await lab.to_end()


@story("An operator deletes work that has ended.", "purge")
async def _purge(lab: Lab) -> None:
    await lab.enqueue("w", "one")
    await lab.driver.work()
    await lab.note("· it has ended")
    await lab.mortally(lambda client: client.purge("w"))
    await _say_what_is_left(lab)


@story("A sweeper deletes work whose retention time is over.", "expire")
async def _expire(lab: Lab) -> None:
    await lab.enqueue("w", "one")
    await lab.driver.work()
    await lab.wait(100)
    await lab.note("· it ended 100 s ago, and is kept for 60")
    lab.who = "sweeper"
    settings = CoreSettings(retention_seconds=60.0)
    with suppress(Killed):
        await Sweeper(lab.parts(settings), "sweeper").expire()
    await lab.note("· another sweeper looks")
    world = lab.world
    await Sweeper(Parts(world.backend, world.clock, world.ids, settings), "sweeper").expire()
    await _say_what_is_left(lab)


async def _say_what_is_left(lab: Lab) -> None:
    left = await lab.world.backend.journal.read("w")
    row = await lab.world.backend.index.get("w")
    await lab.note(f"· {len(left)} entries are left, and {'a' if row else 'no'} row")


@story("A worker drops old snapshots (`keep_versions = 1`); their entries stay.", "prune")
async def _prune(lab: Lab) -> None:
    lab.mortal_worker(CoreSettings(lease_seconds=LEASE_SECONDS, wait_seconds=0.0, keep_versions=1))
    await lab.enqueue("w", "one", "two", "three")
    await lab.to_end()


@story(
    "An operator has work go on from an earlier version, which stays from then on, whoever prunes.", "keep"
)
async def _keep(lab: Lab) -> None:
    await lab.enqueue("w", "one", "give up")
    await lab.driver.work()
    await lab.mortally(lambda client: client.retry("w", "from there", version=1))
    await lab.to_end()


@story(
    "A worker trims the journal of work without an end, a schedule; here after every other version, to its "
    "last two entries.",
    "trim",
)
async def _trim(lab: Lab) -> None:
    with patch.multiple(retention, TRIM_EVERY=2, ENTRIES_KEPT=2, _ENDLESS=frozenset({"probe"})):
        await lab.enqueue("w", "one", "two", "three")
        await lab.to_end()
        left = await lab.world.backend.journal.read("w")
    await lab.note(f"· entries {', '.join(str(entry.position) for entry in left)} are left")


@story(
    "An operator sets what a namespace may use up in a day: one entry in the journal of switches.",
    "daily_set",
)
async def _daily(lab: Lab) -> None:
    await lab.mortally(lambda client: client.set_daily_budget({"steps": 1}, "carefully"))
    await lab.driver.sweep()
    await lab.enqueue("w", "one", "two")
    await lab.driver.work()
    await lab.client.set_daily_budget({}, "enough of that")
    await lab.driver.sweep()
    await lab.to_end()


@story("A lease is charged to the account of its family.", "charge")
async def _charge(lab: Lab) -> None:
    await lab.enqueue("w", "one", "two", family_budget={"steps": 9})
    await lab.to_end()


@story("A family has used up its budget; an operator allows it more.", "allow")
async def _allow(lab: Lab) -> None:
    await lab.enqueue("w", "one", "two", family_budget={"steps": 1})
    await lab.driver.work()
    await lab.mortally(lambda client: client.set_family_budget("w", {"steps": 9}, "worth it"))
    await lab.to_end()


@story("What an operator is about to delete is written down first, with who and why.", "operated")
async def _operated(lab: Lab) -> None:
    await _purge(lab)


@story("A trigger came to nothing, and the history of what ended says so.", "noted")
async def _noted(lab: Lab) -> None:
    rule = Trigger(engine="probe", enqueue="probe", payload={"script": "join('', item.payload.none)"})
    settings = CoreSettings(lease_seconds=LEASE_SECONDS, wait_seconds=0.0, triggers={"next": rule})
    lab.mortal_worker(settings)
    await lab.enqueue("w", "one")
    await lab.to_end()
