"""Fixtures that several packages of tests share."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator

import pytest

from roost.testing.standins import StandIn, start_ministack, start_moto

pytest_plugins = ["pytester"]

_NEW_OBJECTS = 10_000  # between two collections; CPython's own 700 is for programs with little memory


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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the garbage collector pass over what stays to the end, and come less often: it took 7 %."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 10)


def find_browser() -> str | None:
    """The Chromium of this machine: what ROOST_TEST_BROWSER names, or one on the path."""
    named = os.environ.get("ROOST_TEST_BROWSER")
    names = ("chromium", "chromium-browser", "google-chrome")
    return named or next((path for name in names if (path := shutil.which(name))), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what drives a browser where there is none."""
    if find_browser() is not None:
        return
    left_out = [item for item in items if item.get_closest_marker("browser")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was left out."""
    if find_browser() is None:
        terminalreporter.write_line("browser tests left out: no Chromium (apt-get install chromium)")
