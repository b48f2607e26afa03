"""Who asks: principals, their roles, and how a request proves them.

Four ways, by `console.auth`. Each is a pure function of a request's scope and headers;
`Authenticator.of` chooses.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any

from pydantic import SecretStr

from roost import clock
from roost.config import ConsoleSettings
from roost.console.roles import Role
from roost.errors import SettingsError
from roost.models import check_name

COOKIE = "roost_session"
SESSION_SECONDS = 12 * 3600.0
ONCE_SECONDS = 600.0  # how long a URL that works once waits for its use
_NAME_MAX_CHARS = 80
_COOKIE_MAX_CHARS = 1024


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks; `name` goes into the journal with all that they do."""

    name: str
    role: Role

    @property
    def actor(self) -> str:
        """How the journal names them, and as what they did it: `console:ann/admin`.

        Of whom only a token is known, the role is all there is to say: `console:operator`.
        """
        return f"console:{self.name}" if self.name == self.role else f"console:{self.name}/{self.role}"


Authorize = Callable[[Mapping[str, Any]], Principal | None]
"""Says who sent the request of an ASGI scope; None: nobody known."""


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def header(scope: Mapping[str, Any], name: str) -> str | None:
    """The one value of a request header; None where it is missing or comes twice."""
    wanted = name.lower().encode("latin-1")
    found = [value for key, value in scope.get("headers", ()) if key == wanted]
    return found[0].decode("latin-1") if len(found) == 1 else None


class Authenticator:
    """Says who asks, and for `token` keeps sessions.

    Args:
        settings: of the console.
        time: tells when sessions are over.
        authorize: takes the place of all of it, where the console is part of a larger app.
        is_read_only: whoever comes in may only look.
    """

    def __init__(
        self,
        settings: ConsoleSettings,
        time: clock.Clock,
        authorize: Authorize | None = None,
        *,
        is_read_only: bool = False,
    ) -> None:
        self._is_read_only = is_read_only
        self._settings = settings
        self._clock = time
        self._once: dict[str, float] = {}
        self._tokens = _tokens(settings) if authorize is None else {}
        self._key = _session_key(self._tokens)
        ways: dict[str, Authorize] = {
            "none": self._by_loopback,
            "token": self._by_token,
            "headers": self._by_headers,
            "gateway": self._by_gateway,
        }
        self._way = authorize or ways[settings.auth]
        self.has_login: bool = authorize is None and settings.auth == "token"

    def principal(self, scope: Mapping[str, Any]) -> Principal | None:
        """Who sent a request; None: nobody known."""
        found = self._way(scope)
        if found is not None and self._is_read_only:
            return Principal(found.name, Role.VIEWER)
        return found

    # --- the ways ------------------------------------------------------------

    def _by_loopback(self, scope: Mapping[str, Any]) -> Principal | None:
        client = scope.get("client")
        return Principal(_local_user(), Role.ADMIN) if client and is_loopback(client[0]) else None

    def _by_token(self, scope: Mapping[str, Any]) -> Principal | None:
        given = header(scope, "authorization")
        if given is not None:
            kind, _, token = given.partition(" ")
            return self.by_token(token.strip()) if kind.lower() == "bearer" else None
        return self._by_cookie(header(scope, "cookie") or "")

    def _by_headers(self, scope: Mapping[str, Any]) -> Principal | None:
        secret = self._settings.proxy_secret
        if secret is None or not _is_same(header(scope, "x-roost-proxy-secret") or "", secret):
            return None
        name = header(scope, self._settings.user_header)
        roles = (header(scope, self._settings.role_header) or "").split(",")
        return self._named(name, [role.strip() for role in roles])

    def _by_gateway(self, scope: Mapping[str, Any]) -> Principal | None:
        """What an authorizer of API Gateway found; a client can't write into the event's context."""
        context = scope.get("aws.event", {}).get("requestContext", {})
        authorizer = context.get("authorizer") or {}
        if "iam" in authorizer:
            return self._named(*_of_arn(str(authorizer["iam"].get("userArn") or "")))
        claims = authorizer.get("jwt", {}).get("claims") or authorizer.get("lambda") or authorizer
        claims = claims.get("claims", claims) if isinstance(claims, dict) else {}
        return self._named(
            claims.get(self._settings.user_claim), _texts(claims.get(self._settings.role_claim, ""))
        )

    def _named(self, name: object, groups: Sequence[str]) -> Principal | None:
        """Whom somebody else vouches for: the highest role that one of their groups gives."""
        if not isinstance(name, str) or not name:
            return None
        given = {Role.ADMIN: self._settings.admin_roles, Role.OPERATOR: self._settings.operator_roles}
        role = next((role for role, names in given.items() if set(groups) & set(names)), Role.VIEWER)
        return Principal(_checked(name), role)

    # --- tokens and sessions -------------------------------------------------

    def by_token(self, token: str) -> Principal | None:
        """Whose token it is."""
        found = [role for role, secret in self._tokens.items() if _is_same(token, secret)]
        return Principal(found[0].value, found[0]) if found else None

    def make_once(self) -> str:
        """A code that signs in as the highest role that has a token, one time, within `ONCE_SECONDS`."""
        code = clock.secret()
        self._once[code] = self._clock.now() + ONCE_SECONDS
        return code

    def redeem(self, code: str) -> Principal | None:
        """Who comes in with a code from `make_once`; it is used up."""
        until = self._once.pop(code, 0.0)
        highest = next(iter(self._tokens), Role.VIEWER)
        return Principal(_local_user(), highest) if until > self._clock.now() else None

    def session(self, principal: Principal) -> str:
        """The value of a session cookie; good in every process that has the same tokens."""
        fields = [principal.name, principal.role.value, int(self._clock.now() + SESSION_SECONDS)]
        text = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")
        return f"{text}.{self._sign(text)}"

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def _by_cookie(self, cookies: str) -> Principal | None:
        try:
            morsel = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return None
        if morsel is None or len(morsel.value) > _COOKIE_MAX_CHARS:
            return None
        text, _, signature = morsel.value.partition(".")
        if not hmac.compare_digest(self._sign(text).encode(), signature.encode()):
            return None
        name, role, until = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return Principal(name, Role(role)) if until > self._clock.now() else None


def _tokens(settings: ConsoleSettings) -> dict[Role, SecretStr]:
    """The tokens that the settings give; the highest role first.

    Raises:
        SettingsError: what the way of signing in needs is not there.
    """
    if settings.auth == "none" and not is_loopback(settings.host):
        raise SettingsError(
            f"the console would listen on {settings.host} for anybody",
            hint="Set console.auth to token, headers or gateway, or listen on 127.0.0.1.",
        )
    if settings.auth == "headers" and settings.proxy_secret is None:
        raise SettingsError(
            "console.auth is headers, but there is no console.proxy_secret",
            hint="Without it anybody could send these headers. Set it here and in the proxy.",
        )
    if settings.auth != "token":
        return {}
    given = {
        Role.ADMIN: settings.admin_token,
        Role.OPERATOR: settings.operator_token,
        Role.VIEWER: settings.viewer_token,
    }
    tokens = {role: token for role, token in given.items() if token is not None}
    if not tokens:
        names = ", ".join(f"ROOST_CONSOLE__{role.upper()}_TOKEN" for role in given)
        raise SettingsError(
            "console.auth is token, but there is no token",
            hint=f"Set {names}, or some of them.",
        )
    if len({token.get_secret_value() for token in tokens.values()}) < len(tokens):
        raise SettingsError(
            f"two of {', '.join(f'console.{role}_token' for role in tokens)} are the same",
            hint="Give each its own.",
        )
    return tokens


def _session_key(tokens: Mapping[Role, SecretStr]) -> bytes:
    """Follows from the tokens: a new token ends all sessions."""
    text = json.dumps({role.value: secret.get_secret_value() for role, secret in tokens.items()})
    return hmac.new(b"roost console session", text.encode(), hashlib.sha256).digest()


def _is_same(given: str, secret: SecretStr) -> bool:
    return hmac.compare_digest(given.encode(), secret.get_secret_value().encode())


def _checked(name: str) -> str:
    return check_name(name[:_NAME_MAX_CHARS], "user name")


def _texts(claim: object) -> list[str]:
    """The values of a claim: a list, or a text that API Gateway made of one, `[a b]`."""
    if isinstance(claim, list):
        return [str(one) for one in claim]
    return str(claim).strip("[]").replace(",", " ").split()


def _of_arn(arn: str) -> tuple[str, list[str]]:
    """Who signed a request with AWS's keys: a name, and as its groups the ARN of the user or role.

    The ARN of a session of a role (`arn:aws:sts::N:assumed-role/ROLE/SESSION`) gives that of the
    role, which it names without its path.
    """
    head, _, name = arn.partition("/")
    if not head.endswith(":assumed-role"):
        return name or arn.rpartition(":")[2], [arn]
    partition, account = arn.split(":")[1], arn.split(":")[4]
    return name, [f"arn:{partition}:iam::{account}:role/{name.partition('/')[0]}"]


def _local_user() -> str:
    try:
        return _checked(getpass.getuser())
    except (KeyError, OSError):  # a container's user without a name
        return "local"
