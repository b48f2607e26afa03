"""The pytest plugin: fixtures `engine_harness` and `golden`. Installed with Roost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from roost.testing.harness import EngineHarness, Work


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--roost-update-golden`."""
    group = parser.getgroup("roost")
    group.addoption(
        "--roost-update-golden",
        action="store_true",
        help="write golden files anew instead of comparing with them",
    )


@pytest.fixture
def engine_harness() -> Iterator[Callable[..., EngineHarness]]:
    """Makes harnesses: `engine_harness(MyEngine(), OtherEngine())`. See `EngineHarness`."""
    from roost.testing.harness import EngineHarness  # pytest loads plugins of all that is installed

    made: list[EngineHarness] = []

    def make(*engines: Any, **options: Any) -> EngineHarness:
        made.append(EngineHarness(*engines, **options))
        return made[-1]

    yield make
    for harness in made:
        harness.close()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Holds a work item against `golden/NAME.json` beside the test: `golden(work, "happy_path")`.

    See `roost.testing.golden.check_golden`.
    """
    from roost.testing.golden import check_golden

    update = bool(request.config.getoption("--roost-update-golden"))

    def check(work: Work, name: str, *, ignore: Iterable[str] = ()) -> None:
        path = Path(request.path).parent / "golden" / f"{name}.json"
        check_golden(work, path, update=update, ignore=ignore)

    return check
