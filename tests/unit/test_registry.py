"""The engines that a process can run."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from roost.engine import EngineRegistry, EngineSpec, RetryPolicy
from roost.engines.demo import DemoEngine
from roost.errors import EngineContractError, PayloadError
from roost.loading import load_engines
from roost.models import Snapshot, WorkItem


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


class Plain:
    engine_id = "plain"

    def init_snapshot(self, item: WorkItem) -> Snapshot:
        return Snapshot.of(item)

    def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        return snapshot.finish()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("payload_model", dict, "`payload_model` is no pydantic model"),
        ("payload_model", "Payload", "`payload_model` is no pydantic model"),
        ("step_timeout_seconds", True, "`step_timeout_seconds` is not a positive number"),
        ("step_timeout_seconds", "5", "`step_timeout_seconds` is not a positive number"),
    ],
)
def test_an_attribute_that_no_step_could_be_run_by_is_refused(name: str, value: Any, says: str) -> None:
    with pytest.raises(EngineContractError, match=says):
        EngineSpec.of(type("Engine", (Plain,), {name: value})())


def test_a_validator_that_breaks_says_so_of_the_payload() -> None:
    """It is no bug of Roost, and no reason to try again."""

    class Payload(BaseModel):
        names: dict[str, int] = {}

        @field_validator("names")
        @classmethod
        def _check(cls, names: dict[str, int]) -> dict[str, int]:
            return {"a": names["a"]}

    spec = EngineSpec.of(type("Engine", (Plain,), {"payload_model": Payload})())
    spec.check_payload({"names": {"a": 1}})
    with pytest.raises(PayloadError, match="'plain': its `payload_model` raised KeyError: 'a'"):
        spec.check_payload({"names": {}})


def test_an_engine_whose_attributes_raise_is_told_by_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Plain):
        @property
        def retry(self) -> RetryPolicy:
            raise ValueError("no policy")

    monkeypatch.setattr(sys.modules[__name__], "Broken", Broken, raising=False)
    with pytest.raises(EngineContractError, match="can't be loaded: ValueError: no policy") as caught:
        load_engines(f"{__name__}:Broken")
    assert "test_registry.py, line" in caught.value.hint
