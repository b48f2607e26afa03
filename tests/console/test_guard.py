"""What every request passes: host, origin, size, rate, and who may come in."""

from __future__ import annotations

import re

import pytest

from roost.console.guard import (
    BODY_MAX_BYTES,
    CONTENT_SECURITY_POLICY,
    REQUESTS_AT_ONCE,
    REQUESTS_PER_SECOND,
    Rate,
)
from roost.errors import SettingsError
from roost.storage.query import IndexQuery
from roost.testing.clock import ManualClock
from tests.console.conftest import Desk, Make

TOKENS = {"operator_token": "operator-token-0001", "viewer_token": "viewer-token-000001"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_every_answer_has_the_strict_headers(desk: Desk) -> None:
    for path in ("/", "/work", "/nothing", "/livez", "/api/v1/nothing", "/work/none"):
        answer = desk.web.get(path)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY, path
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_no_page_has_an_inline_script_or_style_or_a_foreign_address(desk: Desk) -> None:
    work_id = desk.enqueue({"data": {"a": 1}}, {"fail": "no answer"})
    desk.work()
    for path in ("/", "/work", f"/work/{work_id}", "/failed", "/events", "/settings", "/work/new"):
        page = desk.web.get(path).text
        assert "<style" not in page
        assert not re.search(r"\sstyle=|\son[a-z]+=", page), path
        assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page), path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8319", "127.0.0.1.evil.example", "", "localhost.evil:8319"]
)
def test_a_host_that_is_not_ours_is_refused(desk: Desk, host: str) -> None:
    answer = desk.web.get("/work", headers={"Host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8319", "localhost:1", "LOCALHOST", "[::1]:8319"])
def test_names_of_this_machine_are_ours(desk: Desk, host: str) -> None:
    assert desk.web.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Cookie": "roost_theme=dark"},
    ],
)
def test_a_write_that_another_site_had_a_browser_send_is_refused(desk: Desk, headers: dict[str, str]) -> None:
    work_id = desk.enqueue({}, delay_seconds=100)
    answer = desk.web.post(f"/work/{work_id}/cancel", headers={**FORM, **headers})
    assert answer.status_code == 403
    assert desk.run(desk.runtime.client.status(work_id)).control.cancel_requested is False


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://127.0.0.1:8319"}, {}]
)
def test_a_write_of_our_own_pages_and_of_programs_goes_through(desk: Desk, headers: dict[str, str]) -> None:
    work_id = desk.enqueue({}, delay_seconds=100)
    answer = desk.web.post(f"/work/{work_id}/cancel", headers={**FORM, **headers})
    assert answer.status_code == 303
    assert desk.run(desk.runtime.client.status(work_id)).control.cancel_requested is True


def test_a_body_that_is_too_large_is_refused_before_it_is_read(desk: Desk) -> None:
    answer = desk.web.post("/work/new", headers=FORM, content=b"a" * (BODY_MAX_BYTES + 1))
    assert answer.status_code == 413


def test_a_body_that_says_no_length_is_refused_while_it_is_read(desk: Desk) -> None:
    chunks = (b"payload=" + b"a" * 100_000 for _ in range(BODY_MAX_BYTES // 100_000 + 2))
    assert desk.web.post("/work/new", headers=FORM, content=chunks).status_code == 413


def test_a_client_that_asks_without_end_is_slowed() -> None:
    clock = ManualClock()
    rate = Rate(clock)
    taken = [rate.take("a", 1.0) for _ in range(int(REQUESTS_AT_ONCE) + 1)]
    assert taken[:-1] == [None] * int(REQUESTS_AT_ONCE)
    assert taken[-1] is not None
    assert taken[-1].headers()["Retry-After"] == "1"
    assert rate.take("b", 1.0) is None
    clock.advance(1.0)
    assert [rate.take("a", 1.0) for _ in range(int(REQUESTS_PER_SECOND))] == [None] * int(REQUESTS_PER_SECOND)
    assert rate.take("a", 1.0) is not None


def test_another_address_than_this_machine_needs_a_way_to_sign_in(make: Make) -> None:
    with pytest.raises(SettingsError, match="for anybody"):
        make(host="0.0.0.0")


def test_trusted_headers_need_the_proxys_secret(make: Make) -> None:
    with pytest.raises(SettingsError, match="proxy_secret"):
        make(auth="headers")


def test_tokens_must_be_given_and_differ(make: Make) -> None:
    with pytest.raises(SettingsError, match="no token"):
        make(auth="token")
    with pytest.raises(SettingsError, match="the same"):
        make(auth="token", operator_token="x" * 20, viewer_token="x" * 20)


def test_without_sign_in_only_this_machine_comes_in(desk: Desk) -> None:
    from starlette.testclient import TestClient

    far = TestClient(
        desk.app, base_url="http://127.0.0.1:8319", client=("10.0.0.7", 1), follow_redirects=False
    )
    assert far.get("/work").status_code == 401


def test_a_stranger_is_sent_to_sign_in_and_programs_are_told(make: Make) -> None:
    desk = make(auth="token", **TOKENS)
    assert desk.web.get("/work").headers["location"] == "/login"
    answer = desk.web.get("/api/v1/work")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert desk.web.get("/livez").status_code == 200


def test_signing_in_with_a_token_opens_a_session(make: Make) -> None:
    desk = make(auth="token", **TOKENS)
    wrong = desk.web.post("/login", data={"token": "wrong"}, headers={"Sec-Fetch-Site": "same-origin"})
    assert wrong.status_code == 401
    right = desk.web.post(
        "/login", data={"token": TOKENS["viewer_token"]}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = desk.web.get("/work")
    assert page.status_code == 200
    assert "viewer" in page.text


@pytest.mark.parametrize("cookie", ["", "x", "a.b", "eyJ4Ijo=.0000", '"', "W10." + "0" * 64])
def test_a_forged_session_is_worth_nothing(make: Make, cookie: str) -> None:
    desk = make(auth="token", **TOKENS)
    assert desk.web.get("/work", headers={"Cookie": f"roost_session={cookie}"}).status_code == 303


def test_the_address_that_works_once_works_once(make: Make) -> None:
    desk = make(auth="token", **TOKENS)
    code = desk.app_desk.authenticator.make_once()
    assert desk.browser().get(f"/login?once={code}").status_code == 303
    assert desk.browser().get(f"/login?once={code}").status_code == 401


def test_a_proxys_headers_count_only_with_its_secret(make: Make) -> None:
    desk = make(auth="headers", proxy_secret="s" * 20, host="0.0.0.0", hosts=("console.example",))
    named = {"Host": "console.example", "X-Forwarded-User": "ada", "X-Forwarded-Groups": "staff, operator"}
    assert desk.web.get("/work", headers=named).status_code == 401
    assert desk.web.get("/work", headers={**named, "X-Roost-Proxy-Secret": "t" * 20}).status_code == 401
    page = desk.web.get("/work", headers={**named, "X-Roost-Proxy-Secret": "s" * 20})
    assert "ada" in page.text
    assert "operator" in page.text


def test_who_did_it_is_in_the_journal(make: Make) -> None:
    desk = make(auth="headers", proxy_secret="s" * 20, hosts=("console.example",))
    work_id = desk.enqueue({}, delay_seconds=100)
    headers = {
        **FORM,
        "Host": "console.example",
        "X-Forwarded-User": "ada",
        "X-Forwarded-Groups": "operator",
        "X-Roost-Proxy-Secret": "s" * 20,
    }
    assert (
        desk.web.post(f"/work/{work_id}/cancel", headers=headers, content=b"reason=wrong+topic").status_code
        == 303
    )
    tail = desk.run(desk.runtime.backend.journal.tail(work_id))
    assert tail is not None
    assert (tail.actor, tail.event.reason) == ("console:ada/operator", "wrong topic")  # type: ignore[union-attr]


def test_everything_works_under_a_prefix(make: Make) -> None:
    desk = make(root_path="/prod")
    work_id = desk.enqueue({}, delay_seconds=100)
    for path in ("/prod/work", "/work"):  # a gateway that keeps the stage in the path, and one that does not
        page = desk.web.get(path)
        assert page.status_code == 200
        assert f'href="/prod/work/{work_id}"' in page.text
        assert 'href="/work' not in page.text
    answer = desk.web.post(f"/prod/work/{work_id}/cancel", headers=FORM)
    assert answer.headers["location"].startswith("/prod/work/")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Amzn-Request-Context": '{"authorizer": {"jwt": {"claims": {"sub": "ann"}}}}'},
        {"X-Forwarded-User": "ann", "X-Forwarded-Groups": "operator"},
        {"X-Roost-Proxy-Secret": "guess", "X-Forwarded-User": "ann"},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJyb29zdF9yb2xlIjoib3BlcmF0b3IifQ."},
        {"Cookie": "roost_session=WyJhbm4iLCJvcGVyYXRvciIsOTk5OTk5OTk5OV0.00"},
    ],
)
def test_behind_a_gateway_no_header_makes_anybody_somebody(make: Make, headers: dict[str, str]) -> None:
    """Who asks is in the event that the gateway made, and nowhere that a client can write."""
    desk = make(auth="gateway", hosts=("127.0.0.1",))
    stranger = desk.browser(**headers)
    assert stranger.get("/api/v1/work").status_code == 401
    assert stranger.get("/work").status_code == 401
    assert stranger.post("/api/v1/work", json={"engine": "demo"}).status_code in (401, 403)
    assert desk.run(desk.runtime.client.list(IndexQuery())).rows == []
