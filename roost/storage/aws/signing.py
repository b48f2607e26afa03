"""Requests that look like one that the SDK made, signed anew.

Signature Version 4 (IAM User Guide, "Create a signed AWS API request") over the few headers
that a call of the JSON protocol has. Where a request goes, for which region and service it
is signed, and what headers it has is read off the SDK's own request, never made up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

__all__ = ["Keys", "Pattern", "pattern_of", "signed_headers"]

_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=[^/]+/\d{{8}}/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}"
)
_SIGNED = frozenset({"content-type", "host", "x-amz-date", "x-amz-target"})
# What each request has of its own, and what says how often the SDK tried the one that was seen.
_OWN = frozenset(
    {
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "content-length",
        "host",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-target",
    }
)
_OTHERS_SIGNED = frozenset({"amz-sdk-invocation-id", "amz-sdk-request", "x-amz-security-token"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Keys(Protocol):
    """Credentials as they are at one moment; `ReadOnlyCredentials` of botocore."""

    access_key: str
    secret_key: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Pattern:
    """What all requests of one client have in common.

    Attributes:
        target: prefix of `X-Amz-Target`; the operation follows.
        headers: those that are always the same, none of which is signed but `content_type`.
    """

    url: str
    host: str
    region: str
    service: str
    target: str
    content_type: str
    headers: Mapping[str, str]


def pattern_of(url: str, headers: Iterable[tuple[str, str | bytes]]) -> Pattern | None:
    """What a request of the SDK shows of those to come; None: it is not of the kind known here."""
    texts = {name: value if isinstance(value, str) else value.decode() for name, value in headers}
    lower = {name.lower(): value for name, value in texts.items()}
    parts = urlsplit(url)
    found = _AUTHORIZATION.fullmatch(lower.get("authorization", ""))
    target = lower.get("x-amz-target", "").rpartition(".")[0]
    if found is None or not target or parts.path not in ("", "/") or parts.query or parts.hostname is None:
        return None
    region, service, signed = found.groups()
    if not _SIGNED <= {*signed.split(";")} <= _SIGNED | _OTHERS_SIGNED:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if parts.port is not None and parts.port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{parts.port}"
    always = {name: value for name, value in texts.items() if name.lower() not in _OWN}
    return Pattern(url, host, region, service, f"{target}.", lower["content-type"], always)


def signed_headers(pattern: Pattern, operation: str, body: bytes, keys: Keys, at: float) -> dict[str, str]:
    """The headers of a call.

    Args:
        at: now, by the real clock: AWS refuses what is more than some minutes off.
    """
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    target = pattern.target + operation
    own = {"X-Amz-Date": stamp, "X-Amz-Target": target}
    names, token = "content-type;host;x-amz-date;x-amz-target", ""
    if keys.token:
        own["X-Amz-Security-Token"] = keys.token
        names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
        token = f"x-amz-security-token:{keys.token}\n"
    canonical = (
        f"POST\n/\n\ncontent-type:{pattern.content_type}\nhost:{pattern.host}\nx-amz-date:{stamp}\n"
        f"{token}x-amz-target:{target}\n\n{names}\n{hashlib.sha256(body).hexdigest()}"
    )
    scope = f"{stamp[:8]}/{pattern.region}/{pattern.service}/aws4_request"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(keys.secret_key, scope)
    own["Authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, "
        f"Signature={hmac.digest(key, text.encode(), 'sha256').hex()}"
    )
    return {**pattern.headers, **own}


@lru_cache(maxsize=4)
def _signing_key(secret: str, scope: str) -> bytes:
    """The key of a day, a region and a service; a new one a day, or with new credentials."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
