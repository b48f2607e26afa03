"""Fixtures that several packages of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from roost.testing.standins import StandIn, start_ministack, start_moto

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """ministack, one for each process of the test run; started when it is first asked for."""
    with start_ministack(tmp_path_factory.mktemp("ministack")) as standin:
        yield standin


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """moto, one for each module of tests, since its memory only grows."""
    with start_moto(tmp_path_factory.mktemp("moto")) as standin:
        yield standin
