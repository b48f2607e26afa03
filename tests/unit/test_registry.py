"""The engines that a process can run."""

from __future__ import annotations

import pytest

from roost.engine import EngineRegistry
from roost.engines.demo import DemoEngine
from roost.errors import EngineContractError


def test_an_engine_of_roosts_own_is_made_when_there_is_work_for_it() -> None:
    made: list[DemoEngine] = []

    def make() -> DemoEngine:
        made.append(DemoEngine())
        return made[-1]

    registry = EngineRegistry()
    registry.add_own("demo", make)
    assert list(registry.names()) == ["demo"]
    assert len(registry) == 1
    assert registry.get("other") is None
    assert made == []
    spec = registry.get_for("demo", None)
    assert spec is not None
    assert registry.get("demo") is spec
    assert list(registry.limited(5.0).names()) == list(registry.names()) == ["demo"]
    assert len(made) == 1


def test_going_through_the_engines_makes_all() -> None:
    registry = EngineRegistry()
    registry.add_own("demo", DemoEngine)
    assert [spec.engine_id for spec in registry] == ["demo"]


def test_an_id_of_roosts_own_cant_be_taken() -> None:
    registry = EngineRegistry([DemoEngine()])
    with pytest.raises(EngineContractError, match="'demo' is Roost's own"):
        registry.add_own("demo", DemoEngine)
    registry = EngineRegistry()
    registry.add_own("demo", DemoEngine)
    with pytest.raises(EngineContractError, match="'demo' is Roost's own"):
        registry.add(DemoEngine())
