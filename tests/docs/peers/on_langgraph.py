"""Two nodes of a LangGraph graph with SqliteSaver; the process dies in the second, after its effect.

python on_langgraph.py             # twice
python on_langgraph.py together    # two calls of one thread at the same time
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any, TypedDict

from common import die_once, note
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

FOLDER = os.environ["PEERS_FOLDER"]
CONFIG: Any = {"configurable": {"thread_id": "w"}}
BOTH = threading.Barrier(2)


class State(TypedDict):
    done: list[str]


def one(state: State) -> State:
    note(FOLDER, "one")
    return {"done": [*state["done"], "one"]}


def two(state: State) -> State:
    note(FOLDER, "two")
    die_once(FOLDER)
    note(FOLDER, "end")
    return {"done": [*state["done"], "two"]}


def two_together(state: State) -> State:
    BOTH.wait(20)  # each call is in this node, and so before its checkpoint
    note(FOLDER, "two")
    return {"done": [*state["done"], "two"]}


def graph(saver: SqliteSaver, second: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("one", one)
    builder.add_node("two", second)
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    builder.add_edge("two", END)
    return builder.compile(checkpointer=saver)


def together(saver: SqliteSaver) -> None:
    """Stop before `two`, then let two callers go on with the same thread."""
    made = graph(saver, two_together)
    made.invoke({"done": []}, CONFIG, interrupt_before=["two"], durability="sync")
    calls = [threading.Thread(target=made.invoke, args=(None, CONFIG)) for _ in range(2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()


if __name__ == "__main__":
    with SqliteSaver.from_conn_string(str(Path(FOLDER) / "graph.sqlite")) as saver:
        if sys.argv[1:] == ["together"]:
            together(saver)
        else:
            first = None if (Path(FOLDER) / "died").exists() else {"done": []}
            graph(saver, two).invoke(first, CONFIG, durability="sync")
