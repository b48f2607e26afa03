"""Approval tokens: what was asked, signed, so that a link can carry it through any hands.

A token names an ask (work item, version, name) and nothing else. Whether that is still open,
and what may be answered, is read from the journal; so a token never says more than is true.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, field

from msgspec import Struct

from roost.errors import InputError, SettingsError

_DOMAIN = b"roost approval 1\0"  # a signature made for this is good for nothing else
_TOKEN_MAX_CHARS = 2048


class Asked(Struct, frozen=True):
    """One ask: by which commit of which work item, under which name."""

    work_id: str
    version: int
    name: str

    @property
    def signal_id(self) -> str:
        """Of the signal that answers it; the same for each answer, so that only one is taken."""
        return f"approval-{self.version}-{hashlib.sha256(self.name.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs asks, and reads what it signed.

    Args:
        secrets: the first one signs; a token that any of them signed is good.
        url: what a token is put behind to be a link; empty: there are no links.
    """

    secrets: tuple[str, ...] = field(default=(), repr=False)
    url: str = ""

    def sign(self, asked: Asked) -> str:
        """The token of an ask; the same each time.

        Raises:
            SettingsError: there is no secret.
        """
        text = json.dumps([asked.work_id, asked.version, asked.name], separators=(",", ":")).encode()
        return f"{_encode(text)}.{_encode(self._mac(self._secrets()[0], text))}"

    def read(self, token: str) -> Asked:
        """The ask that a token is for.

        Raises:
            InputError: it was not signed here, or changed since.
            SettingsError: there is no secret.
        """
        secrets = self._secrets()
        text, _, mac = token.partition(".") if len(token) <= _TOKEN_MAX_CHARS else ("", "", "")
        raw, given = _decode(text), _decode(mac)
        if not any(hmac.compare_digest(self._mac(secret, raw), given) for secret in secrets):
            raise InputError(
                "that is no token of ours", hint="It must be copied whole. `roost approvals` shows open ones."
            )
        work_id, version, name = json.loads(raw)
        return Asked(work_id, version, name)

    def link(self, token: str) -> str:
        """What a person can click on; the token itself where no URL is set."""
        return f"{self.url}{token}"

    def _secrets(self) -> tuple[str, ...]:
        if not self.secrets:
            raise SettingsError(
                "approvals need a secret to sign with",
                hint="Set ROOST_APPROVALS__SIGNING_SECRET to at least 16 characters, the same everywhere.",
            )
        return self.secrets

    @staticmethod
    def _mac(secret: str, text: bytes) -> bytes:
        return hmac.digest(secret.encode(), _DOMAIN + text, "sha256")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Only what `_encode` writes; empty for anything else, also for other spellings of the same."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if _encode(raw) == text else b""
