"""Approvals by their link: without signing in, once, in the shape that was asked for."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.console import forms
from roost.core.tokens import Asked
from roost.errors import RoostError
from tests.console.conftest import Desk, Make

SHAPE = {
    "type": "object",
    "properties": {
        "ok": {"type": "boolean", "title": "Refund it?"},
        "amount": {"type": "integer", "minimum": 1},
        "way": {"type": "string", "enum": ["card", "cash"]},
        "note": {"anyOf": [{"type": "string", "maxLength": 900}, {"type": "null"}], "default": None},
    },
    "required": ["ok", "amount", "way"],
}
RIGHT = {"reply.ok": "yes", "reply.amount": "12", "reply.way": "card", "by": "Ann"}


def asked(make: Make, **step: Any) -> tuple[Desk, str, str]:
    """A console with a token, work that asks, and the path that answers."""
    desk = make(auth="token", operator_token="operator-token-0001")
    work_id = desk.enqueue({"ask": SHAPE, **step})
    desk.work()
    token = desk.runtime.parts.settings.approvals.sign(Asked(work_id, 1, "refund"))
    return desk, work_id, f"/approve/{token}"


def test_a_stranger_with_the_link_answers_once(make: Make) -> None:
    desk, work_id, path = asked(make)
    page = desk.web.get(path)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    for text in ("Refund it?", "<option>card</option>", "Your name", work_id, '<textarea name="reply.note"'):
        assert text in page.text
    assert "/settings" not in page.text  # nothing of the console is shown
    assert desk.web.post(path, data=RIGHT).headers["location"].endswith("?did=approve")
    desk.work()
    view = desk.run(desk.runtime.client.status(work_id))
    assert view.control.state == "done"
    [signal] = desk.run(desk.runtime.client.signals(work_id))
    assert (signal.signal.data, signal.signal.actor) == (
        {"ok": True, "amount": 12, "way": "card"},
        "link:Ann",
    )
    again = desk.web.post(path, data={**RIGHT, "reply.ok": "no"})
    assert "no longer asked for" in again.text
    gone = desk.web.get(path)
    assert gone.status_code == 410
    assert "no longer asked for" in gone.text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"reply.amount": "0"}, "minimum"),
        ({"reply.amount": "many"}, "amount"),
        ({"reply.way": "gold"}, "gold"),
        ({"by": ""}, "Write your name"),
        ({"reply.ok": ""}, "ok"),
    ],
)
def test_an_answer_of_another_shape_comes_back_filled_in(
    make: Make, change: dict[str, str], problem: str
) -> None:
    desk, work_id, path = asked(make)
    page = desk.web.post(path, data=RIGHT | change)
    assert problem in page.text.split('role="alert"')[1].split("</p>")[0]
    assert desk.run(desk.runtime.client.signals(work_id)) == []


def test_a_link_that_is_not_ours_or_too_old_says_so(make: Make) -> None:
    desk, work_id, path = asked(make, within=0.01)
    for wrong in (f"{path}x", "/approve/none", "/approve/a.b"):
        page = desk.web.get(wrong)
        assert page.status_code == 404
        assert "no token of ours" in page.text
    page = desk.web.get(path)
    assert page.status_code == 410
    assert "expired" in page.text or "no longer" in page.text
    assert desk.run(desk.runtime.client.signals(work_id)) == []


def test_an_operator_finds_the_ask_on_the_work_item_and_answers_as_themselves(make: Make) -> None:
    desk, work_id, path = asked(make)
    operator = desk.browser(Authorization="Bearer operator-token-0001")
    page = operator.get(f"/work/{work_id}").text
    assert f'href="{path}"' in page
    assert "Your name" not in operator.get(path).text
    operator.post(path, data=RIGHT)
    [signal] = desk.run(desk.runtime.client.signals(work_id))
    assert signal.signal.actor == "console:operator"


def test_the_tokens_are_not_for_viewers(make: Make) -> None:
    desk = make(auth="token", operator_token="operator-token-0001", viewer_token="viewer-token-00001")
    work_id = desk.enqueue({"ask": SHAPE})
    desk.work()
    viewer = desk.browser(Authorization="Bearer viewer-token-00001")
    assert "/approve/" not in viewer.get(f"/work/{work_id}").text
    assert viewer.get(f"/api/v1/work/{work_id}/approvals").status_code == 403


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(
            [{"type": "string"}, {"type": "boolean"}, {"type": "integer"}, {"type": "array"}, {}, True]
        ),
        max_size=3,
    ),
    st.dictionaries(st.sampled_from(["a", "b", "c", "value"]), st.text(max_size=8), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_any_schema_has_a_form_and_any_form_a_value_or_a_fault(
    properties: dict[str, Any], form: dict[str, str]
) -> None:
    schema = {"type": "object", "properties": properties}
    assert forms.fields_of(schema)
    with suppress(RoostError):
        forms.value_of(schema, form)
