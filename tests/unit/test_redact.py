"""What the history keeps of an error: no secrets, no control characters, not too long."""

from __future__ import annotations

from typing import Any

import pytest

from roost.core.redact import MESSAGE_MAX_CHARS, TRACEBACK_MAX_CHARS, clean, describe

KEY = "AKIA" + "ABCDEFGH12345678"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password=hunter2 and more", "hunter2"),
        ("PASSWORD: hunter2", "hunter2"),
        ('{"password": "hunter 2", "a": 1}', "hunter 2"),
        ("{'api_key': 'hunter2'}", "hunter2"),
        ("api-key=hunter2&x=1", "hunter2"),
        ("https://host/?token=hunter2&x=1", "hunter2"),
        ("secret_value = hunter2", "hunter2"),
        ("aws_secret_access_key=hunter2", "hunter2"),
        ("GITHUB_TOKEN=hunter2", "hunter2"),
        ("x-api-key: hunter2", "hunter2"),
        ("{'DB_PASSWORD': 'hunter2'}", "hunter2"),
        ("Authorization: Bearer abc.def-ghi_123", "abc.def"),
        ("sent bearer abcdefghij1234", "abcdefghij"),
        (f"used {KEY} here", KEY),
        ("redis://user:hunter2@host:6379/0", "hunter2"),
        ("postgresql+asyncpg://user:hunter2@host/db", "hunter2"),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----", "hunter2"),
        ("-----BEGIN PRIVATE KEY-----\nhunter2 cut off", "hunter2"),
    ],
)
def test_a_secret_is_taken_out(text: str, secret: str) -> None:
    cleaned = clean(text)
    assert secret not in cleaned
    assert "[redacted]" in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "could not connect to https://host:8080/path?x=1",
        "ValueError: 3 tokens are too many",
        "the author is unknown",
        "a\ttab and\nlines stay",
        "Größe \N{SNOWMAN}",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert clean(text) == text


def test_control_characters_are_replaced() -> None:
    assert clean("a\x00b\x1b[31mc\x7f\ud800") == "a\ufffdb\ufffd[31mc\ufffd\ufffd"


def test_a_long_text_is_cut() -> None:
    cleaned = clean("x" * 1_000_000)
    assert len(cleaned) == MESSAGE_MAX_CHARS
    assert cleaned.endswith("…")
    assert clean("x" * MESSAGE_MAX_CHARS) == "x" * MESSAGE_MAX_CHARS


def test_a_secret_at_the_cut_is_taken_out_all_the_same() -> None:
    cleaned = clean("x" * (MESSAGE_MAX_CHARS - 20) + " password=hunter2hunter2hunter2")
    assert "hunter2" not in cleaned


def test_an_error_is_described_with_type_text_and_place() -> None:
    def broken() -> None:
        raise ValueError("password=hunter2")

    try:
        broken()
    except ValueError as error:
        info = describe(error)
    assert (info.type, info.message) == ("ValueError", "password=[redacted]")
    assert "in broken" in info.traceback


def test_a_traceback_of_roost_alone_is_whole() -> None:
    """One that has frames of an engine begins with them; see `test_attempt`."""
    ours: dict[str, Any] = {"__name__": "roost.core.session"}
    exec("def outer(): inner()\ndef inner(): {}['x']", ours)
    with pytest.raises(KeyError) as caught:
        ours["outer"]()
    error = caught.value
    error.__traceback__ = caught.tb.tb_next  # without this test's own frame
    lines = describe(error).traceback
    assert "in outer" in lines
    assert "in inner" in lines


def test_an_error_whose_text_can_not_be_had_is_described_all_the_same() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise KeyError("no text")

    assert describe(Rude()).message == "its text can't be had: KeyError"


def test_a_deep_traceback_keeps_its_end() -> None:
    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("bottom")
        dive(depth - 1)

    try:
        dive(300)
    except ValueError as error:
        info = describe(error)
    assert len(info.traceback) <= TRACEBACK_MAX_CHARS
    assert "bottom" in info.traceback  # the line that raised it


def test_a_group_of_errors_is_described() -> None:
    info = describe(BaseExceptionGroup("many", [ValueError("a"), KeyboardInterrupt()]))
    assert info.type == "BaseExceptionGroup"
    assert "many" in info.message


def test_a_long_word_is_no_trap() -> None:
    """A pattern that looks for a name inside of words must not look again from each letter."""
    for text in ("a" * 8000, "_token" * 1300, "secret " * 1100):
        assert len(clean(text)) <= MESSAGE_MAX_CHARS
