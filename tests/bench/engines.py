"""Engines that do nothing but keep a state of a given size."""

from __future__ import annotations

from functools import cache

from roost import Snapshot, WorkItem

WORDS = ["roost", "keeps", "agents", "going", "through", "crashes", "and", "waits", "and", "human", "hands"]


class Counter:
    """Counts to `steps` with a state of about `size` bytes, of which little changes a step."""

    engine_id = "counter"

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        messages = [{"role": "user", "content": text} for text in _messages(item.payload["size"])]
        return Snapshot.of(item, data={"n": 0, "messages": messages})

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        data = snapshot.data
        data["n"] += 1
        data["messages"][data["n"] % len(data["messages"])]["content"] = f"message {data['n']}"
        snapshot.is_finished = data["n"] >= item.payload["steps"]
        return snapshot


@cache
def _messages(size: int) -> tuple[str, ...]:
    """Texts of 5 to 27 words that make about `size` bytes of state."""
    texts, made = [], 0
    while made < size - 60:
        number = len(texts)
        step = number % 5 + 1
        text = " ".join(WORDS[(number * 7 + n * step) % len(WORDS)] for n in range(number % 23 + 5))
        made += len(text) + 34
        texts.append(text)
    return tuple(texts)
