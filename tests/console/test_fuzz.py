"""The API is called as its own description allows, and as it does not; it never fails with 500."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("schemathesis") is None:  # pragma: no cover
    pytest.skip("schemathesis is not installed", allow_module_level=True)

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from roost.config import ApprovalSettings, Settings
from roost.console import guard
from roost.console.api.operations import OPERATIONS, PREFIX
from roost.console.api.table import Operation
from roost.wiring import Runtime
from tests.console.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLES = 6  # of each operation
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


async def _seed(runtime: Runtime) -> None:
    for n in range(3):
        steps = [{"data": {"a": n}}, {"fail": "no answer"}]
        await runtime.client.enqueue("scripted", {"steps": steps}, work_id=f"w{n}", delay_seconds=99 * n)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The description, as the running console gives it."""
    secret = ApprovalSettings(signing_secret="a secret of sixteen")
    given = Settings(storage="local", home=tmp_path_factory.mktemp("fuzz"), approvals=secret)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "REQUESTS_AT_ONCE", 1e9)
        with served(given, _seed) as url:
            yield schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")


BOUNDED = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_holds_what_its_description_says(api: Any, operation: Operation) -> None:
    """With ids made up, and with those of work that is there."""
    described = api[f"{PREFIX}{operation.path}"][operation.method]

    @BOUNDED
    @given(case=described.as_strategy(), is_there=st.booleans())
    def call(case: schemathesis.Case, is_there: bool) -> None:
        if is_there and "work_id" in (case.path_parameters or {}):
            case.path_parameters["work_id"] = "w1"
        if is_there and "version" in (case.path_parameters or {}):
            case.path_parameters["version"] = 1
        case.call_and_validate(checks=CHECKS)

    call()
