"""The console's browser tests once more, over DynamoDB, SQS and S3 on a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import pytest

from roost.testing.standins import StandIn
from tests.console import test_browser
from tests.console.test_browser import browser, console, site, tab  # noqa: F401  fixtures
from tests.standins.harness import SHARDS, make_stack, point_sdk_at

pytestmark = test_browser.pytestmark

globals().update({name: test for name, test in vars(test_browser).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def storage(ministack: StandIn) -> Iterator[Mapping[str, str]]:
    """A stack of its own."""
    with pytest.MonkeyPatch.context() as patch:
        point_sdk_at(ministack, patch)
        made = asyncio.run(make_stack("browser"))
        yield {
            **ministack.environ,
            "ROOST_STORAGE": f"aws:{made.stack}",
            "ROOST_LEASE_SECONDS": "5",
            "ROOST_AWS__BUCKET": str(made.bucket),
            "ROOST_AWS__SHARDS": str(SHARDS),
        }
