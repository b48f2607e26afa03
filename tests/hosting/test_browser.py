"""The console's browser tests once more, with its function behind API Gateway instead of `roost ui`.

Pages poll there, since nothing can be streamed; all else is to be the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.console import test_browser
from tests.console.test_browser import browser, site, storage, tab  # noqa: F401  fixtures

pytestmark = test_browser.pytestmark

globals().update({name: test for name, test in vars(test_browser).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def console() -> Sequence[str]:
    """An HTTP API with the handler of the console's function."""
    return ("tests.hosting.console_api",)
