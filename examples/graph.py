"""A LangGraph graph, one super-step a Roost step: the checkpoint is the snapshot.

The graph is an ordinary one. Under Roost each super-step is committed before the next begins, on
whatever worker; `interrupt(…)` is a wait for a signal (for days, on no worker), whose data is the
answer; a super-step of which a node fails is repeated as a whole, and `once` keeps its side effects
from being repeated with it. Nodes are `async`.

    pip install 'roost-runtime[examples]'
    roost worker --engines graph:Briefing
    WORK_ID=$(roost enqueue --any-engine --engine briefing --payload '{"topic": "owls"}')
    roost signal "$WORK_ID" answer --data '"yes"'
"""

from __future__ import annotations

import base64
import operator
from collections.abc import Sequence
from copy import deepcopy
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from roost import RetryPolicy, Snapshot, WaitFor, WorkItem, current_step

ANSWER = "answer"

# --- a graph: all that it has of Roost is `once` -------------------------------------------------


class Brief(TypedDict):
    topic: str
    places: list[str]
    found: Annotated[list[str], operator.add]
    text: str


async def begin(state: Brief) -> dict[str, Any]:
    return {"found": [], "text": ""}


def places(state: Brief) -> list[Send]:
    """A branch for each place to look in; they run in one super-step."""
    return [Send("look", Place(topic=state["topic"], place=place)) for place in state["places"]]


class Place(TypedDict):
    topic: str
    place: str


async def look(state: Place) -> dict[str, Any]:
    said = await current_step().once(f"look:{state['place']}", lambda: search(**state))
    return {"found": [said]}


def search(topic: str, place: str) -> str:
    """Stands for a search engine, or a model."""
    return f"{topic} in {place}"


async def write(state: Brief) -> dict[str, Any]:
    return {"text": "; ".join(sorted(state["found"]))}


async def review(state: Brief) -> Command[str]:
    """Ask a person; what they would have otherwise is written again."""
    answer = interrupt({"publish": state["text"]})
    if answer == "yes":
        return Command(goto=END)
    return Command(update={"found": [str(answer)]}, goto="write")


def build() -> StateGraph[Brief]:
    graph = StateGraph(Brief)
    graph.add_node("begin", begin)
    graph.add_node("look", look, input_schema=Place)
    graph.add_node("write", write)
    graph.add_node("review", review, destinations=("write", END))
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", places, ["look"])
    graph.add_edge("look", "write")
    graph.add_edge("write", "review")
    return graph


# --- the engine: runs any graph ------------------------------------------------------------------


class Briefing:
    """Runs a graph, by default the one above. For one of yours, take another id and payload too."""

    engine_id = "briefing"
    retry = RetryPolicy(max_attempts=5, first_delay_seconds=1.0)
    step_timeout_seconds = 300.0

    class Asked(BaseModel):
        """What the work is enqueued with: the input of the graph."""

        topic: str
        places: list[str] = ["books", "papers"]

    payload_model = Asked

    def __init__(self, graph: StateGraph[Any] | None = None) -> None:
        self._graph = graph or build()

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item, step=START, data={"graph": None, "questions": []})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        saver = SnapshotSaver(snapshot.data["graph"])
        graph = self._graph.compile(checkpointer=saver)
        config: RunnableConfig = {"configurable": {"thread_id": item.work_id}}
        # Of several nodes that ask at a time, the first is answered; the others ask once more.
        given: Any = None
        if snapshot.data["graph"] is None:
            given = self.Asked.model_validate(item.payload).model_dump()
        elif snapshot.data["questions"]:
            given = Command(resume={snapshot.data["questions"][0]["id"]: current_step().signals[0].data})
        await graph.ainvoke(given, config, interrupt_after="*", durability="sync")  # one super-step
        state = await graph.aget_state(config)
        questions = [{"id": one.id, "value": one.value} for one in state.interrupts]
        data = {"graph": saver.dump(), "questions": questions}
        if not state.next:
            return snapshot.finish(data=data, result=state.values["text"])
        wait = WaitFor(signals=(ANSWER,)) if questions else None
        return snapshot.next("+".join(sorted(set(state.next))), data=data, wait_for=wait)


class SnapshotSaver(BaseCheckpointSaver[int]):
    """LangGraph's checkpointer on a snapshot: the newest checkpoint of the graph and of its subgraphs.

    Args:
        stored: what `dump` gave; None: a new thread.
    """

    def __init__(self, stored: dict[str, Any] | None) -> None:
        super().__init__()
        self._slots: dict[str, dict[str, Any]] = {} if stored is None else stored

    def dump(self) -> dict[str, Any]:
        """JSON, by namespace; what is JSON can be read in it, the rest is LangGraph's msgpack."""
        return self._slots

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        slot = self._slots.get(_namespace(config))
        if slot is None:
            return None
        values = {name: self._unpacked(value) for name, value in slot["values"].items()}
        checkpoint: Checkpoint = self._unpacked(slot["checkpoint"])
        checkpoint["channel_values"] = values
        writes = [(one[0], one[2], self._unpacked(one[3])) for one in sorted(slot["writes"], key=_order)]
        metadata = self._unpacked(slot["metadata"])
        return CheckpointTuple(_at(config, checkpoint["id"]), checkpoint, metadata, None, writes)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        namespace = _namespace(config)
        if not namespace:
            self._slots.clear()  # what subgraphs did is part of the super-step that is over
        self._slots[namespace] = {
            "checkpoint": self._packed({**checkpoint, "channel_values": {}}),
            "metadata": self._packed(dict(metadata)),
            "values": {name: self._packed(value) for name, value in checkpoint["channel_values"].items()},
            "writes": [],
        }
        return _at(config, checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        kept = self._slots[_namespace(config)]["writes"]
        for number, (channel, value) in enumerate(writes):
            number = WRITES_IDX_MAP.get(channel, number)  # below 0: an interrupt, an error; the newest counts
            same = [one for one in kept if one[:2] == [task_id, number]]
            if number < 0 or not same:
                kept[:] = [one for one in kept if one not in same]
                kept.append([task_id, number, channel, self._packed(value)])

    def _packed(self, value: Any) -> dict[str, Any]:
        if _is_plain(value):
            return {"json": deepcopy(value)}  # LangGraph goes on changing what it gave
        kind, raw = self.serde.dumps_typed(value)
        return {"kind": kind, "base64": base64.b64encode(raw).decode()}

    def _unpacked(self, packed: dict[str, Any]) -> Any:
        if "json" in packed:
            return deepcopy(packed["json"])
        return self.serde.loads_typed((packed["kind"], base64.b64decode(packed["base64"])))


def _is_plain(value: Any) -> bool:
    """Whether it comes out of JSON as it went in."""
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(name) is str and _is_plain(one) for name, one in value.items())
    return value is None or type(value) in (str, bool, int, float)


def _order(write: list[Any]) -> tuple[str, int]:
    return write[0], write[1]


def _namespace(config: RunnableConfig) -> str:
    return str(config.get("configurable", {}).get("checkpoint_ns", ""))


def _at(config: RunnableConfig, checkpoint_id: str) -> RunnableConfig:
    asked = config.get("configurable", {})
    return {
        "configurable": {
            "thread_id": asked["thread_id"],
            "checkpoint_ns": asked.get("checkpoint_ns", ""),
            "checkpoint_id": checkpoint_id,
        }
    }
