"""Approval tokens: only what was signed here is read, with any of the secrets, and none is shown."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.config import load_settings
from roost.core.tokens import Asked, Signer
from roost.errors import InputError, SettingsError

NEW, OLD = "a new secret of 16", "an old secret of 16"
ASKED = Asked("team-a/work-1", 3, "publish")
SIGNER = Signer((NEW, OLD), "https://roost.example.com/approve/")


def test_what_was_signed_is_read_again() -> None:
    token = SIGNER.sign(ASKED)
    assert SIGNER.read(token) == ASKED
    assert SIGNER.link(token) == f"https://roost.example.com/approve/{token}"
    assert Signer((NEW,)).link(token) == token
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_a_secret_can_be_changed_while_tokens_are_out() -> None:
    token = Signer((OLD,)).sign(ASKED)
    assert SIGNER.read(token) == ASKED
    with pytest.raises(InputError):
        Signer((NEW,)).read(token)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_with_any_byte_changed_is_refused(place: int, change: int) -> None:
    token = bytearray(SIGNER.sign(ASKED).encode())
    token[place % len(token)] ^= change
    with pytest.raises(InputError):
        SIGNER.read(token.decode("latin-1"))


@given(st.text(max_size=100))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(InputError):
        SIGNER.read(text)


def test_another_work_item_under_the_same_signature_is_refused() -> None:
    text, _, mac = SIGNER.sign(ASKED).partition(".")
    fields = json.loads(base64.urlsafe_b64decode(text + "=="))
    other = base64.urlsafe_b64encode(json.dumps([*fields[:2], "delete"]).encode()).rstrip(b"=").decode()
    with pytest.raises(InputError):
        SIGNER.read(f"{other}.{mac}")


def test_without_a_secret_nothing_is_signed_or_read() -> None:
    for act in (lambda: Signer().sign(ASKED), lambda: Signer().read("a.b")):
        with pytest.raises(SettingsError, match="need a secret"):
            act()


def test_the_secret_is_never_shown() -> None:
    settings = load_settings(environ={"ROOST_APPROVALS__SIGNING_SECRET": NEW})
    assert NEW not in repr(settings)
    assert NEW not in repr(SIGNER)
    assert settings.approvals.signing_secret is not None
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={"ROOST_APPROVALS__SIGNING_SECRET": "too short"})
    assert "too short" not in str(caught.value)
