"""Switches: one entry holds all that is paused, so there is an end to it."""

from __future__ import annotations

import pytest

from roost.clock import SystemIds
from roost.core import switches
from roost.core.client import Client
from roost.core.parts import Parts
from roost.errors import InputError
from roost.storage.memory import MemoryBackend
from roost.testing.clock import ManualClock


async def test_what_is_paused_has_an_end_and_is_resumed_beyond_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "STATE_MAX_BYTES", 1000)
    clock = ManualClock()
    client = Client(Parts(MemoryBackend(clock), clock, SystemIds()))
    for number in range(5):
        await client.pause_engine(f"engine{number}", "x" * 80)
    with pytest.raises(InputError, match="more than 1000 bytes") as refused:
        await client.pause_engine("engine5", "x" * 500)
    assert "Resume" in refused.value.hint
    paused = len(await client.switches())
    monkeypatch.setattr(switches, "STATE_MAX_BYTES", 10)  # as if an older Roost had paused them
    await client.resume_engine("engine0", "")
    assert len(await client.switches()) == paused - 1
