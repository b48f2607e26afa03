"""What the model-based tests have in common: a backend and its model, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from roost.journal.entries import Entry
from roost.storage.memory import MemoryBackend
from roost.storage.ports import Backend
from roost.testing.contract.harness import BackendHarness

T = TypeVar("T")

IDS = ("a", "b", "c.1", "c.2")
work_ids: st.SearchStrategy[str] = st.sampled_from(IDS)


class Machine(RuleBasedStateMachine):
    """Holds the backend and its model, on an event loop of its own."""

    def __init__(self, harness: BackendHarness) -> None:
        super().__init__()
        self.harness = harness
        self._runner = asyncio.Runner()
        self.backend: Backend = self.wait(harness.open())
        self.other: Backend = self.wait(harness.reopen())
        self.model: MemoryBackend = MemoryBackend(harness.clock)

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)

    def both(self, call: Callable[[Backend], Coroutine[Any, Any, T]]) -> tuple[T, T]:
        """What the model and the backend answer to the same call."""
        return self.wait(call(self.model)), self.wait(call(self.backend))

    def same(self, call: Callable[[Backend], Coroutine[Any, Any, T]]) -> T:
        """The answer of both, which must be the same."""
        model, real = self.both(call)
        assert real == model
        return model

    def teardown(self) -> None:
        try:
            self.wait(self.harness.close())
        finally:
            self._runner.close()


async def listed(call: Coroutine[Any, Any, Any]) -> list[Any]:
    """An answer as a list, so that it doesn't matter which kind of sequence it is."""
    answer = await call
    return [answer] if isinstance(answer, Entry) or answer is None else list(answer)
