"""What every request passes before a handler sees it, and every answer on its way out.

In this order: the host's name, the body's size, where the request comes from, who sent it,
how many they sent. A request that fails is answered here; no handler runs for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roost.clock import Clock
from roost.console.principal import Authenticator, Principal, header, is_loopback
from roost.console.problems import Problem, of_error
from roost.errors import RoostError

BODY_MAX_BYTES = 2 << 20  # a payload of 1 MiB as JSON in JSON, and what goes with it
QUERY_MAX_BYTES = 8 << 10
REQUESTS_PER_SECOND = 60.0  # of one client, in the long run;
REQUESTS_AT_ONCE = 600.0  # a burst of so many goes through
WRITES_COST = 5.0  # a write counts as so many reads
_CLIENTS_MAX = 4096
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN_PATHS = ("/livez", "/readyz", "/login", "/static/", "/approve/")  # a token is a permission

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    b"x-frame-options": b"DENY",
    b"cache-control": b"private, no-cache",
}


def bad_host(scope: Mapping[str, Any], is_known: Callable[[str], bool]) -> Problem | None:
    """Refuse a name that is not ours: a foreign page may have had its own name point here."""
    host = header(scope, "host")
    if host is not None and is_known(host):
        return None
    return Problem(
        HTTPStatus.MISDIRECTED_REQUEST,
        "unknown_host",
        f"The console is not known as {(host or '')[:80]!r}.",
        "Use the address that `roost ui` printed, or add the name to console.hosts.",
    )


def foreign_write(scope: Mapping[str, Any]) -> Problem | None:
    """Refuse a write that another site had a browser send.

    Browsers say where a request comes from in `Sec-Fetch-Site`, older ones in `Origin`
    (Fetch Metadata Request Headers, W3C; Fetch standard, "Origin header"). A program that
    is no browser sends neither.
    """
    if scope["method"] in _SAFE_METHODS:
        return None
    site, origin = header(scope, "sec-fetch-site"), header(scope, "origin")
    if site is not None:
        is_ours = site == "same-origin"
    elif origin is not None:
        is_ours = origin.partition("://")[2] == header(scope, "host")
    else:
        is_ours = header(scope, "cookie") is None
    if is_ours:
        return None
    return Problem(
        HTTPStatus.FORBIDDEN,
        "foreign_request",
        "This request did not come from the console's own pages.",
        "Act from the console itself, or from a program that sends no Origin.",
    )


def too_large(scope: Mapping[str, Any]) -> Problem | None:
    """Refuse what announces more than is taken."""
    length = header(scope, "content-length")
    if len(scope.get("query_string", b"")) > QUERY_MAX_BYTES:
        return Problem(HTTPStatus.REQUEST_URI_TOO_LONG, "query_too_long", "The query is too long.")
    if length is not None and (not length.isdecimal() or int(length) > BODY_MAX_BYTES):
        return _too_large()
    return None


def _too_large() -> Problem:
    title = f"The body has more than {BODY_MAX_BYTES} bytes."
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", title)


class Rate:
    """How much each client may still ask for; fills up with time. The clients last seen are kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, cost: float) -> Problem | None:
        """Let a request of `client` pass, or say when it may come again."""
        now = self._clock.monotonic()
        left, at = self._left.pop(client, (REQUESTS_AT_ONCE, now))
        left = min(REQUESTS_AT_ONCE, left + (now - at) * REQUESTS_PER_SECOND)
        is_enough = left >= cost
        self._left[client] = (left - cost if is_enough else left, now)
        if len(self._left) > _CLIENTS_MAX:
            self._left.popitem(last=False)
        if is_enough:
            return None
        return Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too_many_requests",
            "Too many requests from here.",
            "Wait a moment.",
            (cost - left) / REQUESTS_PER_SECOND,
        )


class Guard:
    """The middleware.

    Args:
        app: what comes behind.
        show: makes the page of a problem, for browsers.
        is_known_host: whether the console is called by a name, as the `Host` header has it.
        root_path: what stands before all paths where the server does not say so itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Clock,
        authenticator: Authenticator,
        is_known_host: Callable[[str], bool],
        show: Callable[[Scope, Problem], Response],
        root_path: str = "",
    ) -> None:
        self.app = app
        self._authenticator = authenticator
        self._rate = Rate(clock)
        self._is_known_host = is_known_host
        self._show = show
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._root_path:
            scope = _under(scope, self._root_path)
        sender = _Sender(send)
        try:
            answer = self._refusal(scope)
        except RoostError as error:
            answer = self._answer(scope, of_error(error))
        if answer is not None:
            await answer(scope, receive, sender)
            return
        await self.app(scope, _Body(receive), sender)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further."""
        for problem in (bad_host(scope, self._is_known_host), too_large(scope), foreign_write(scope)):
            if problem is not None:
                return self._answer(scope, problem)
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        is_open = path.startswith(_OPEN_PATHS)
        principal = self._authenticator.principal(scope)
        if principal is None and not is_open:
            return self._stranger(scope, path)
        scope.setdefault("state", {})["principal"] = principal
        client = scope.get("client")
        cost = 1.0 if scope["method"] in _SAFE_METHODS else WRITES_COST
        name = principal.name if principal else "stranger"
        limited = self._rate.take(f"{name}@{client[0] if client else ''}", cost)
        return None if limited is None else self._answer(scope, limited)

    def _stranger(self, scope: Scope, path: str) -> Response:
        if self._authenticator.has_login and not path.startswith("/api/") and scope["method"] == "GET":
            return RedirectResponse(f"{scope.get('root_path', '')}/login", status_code=303)
        problem = Problem(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "The console does not know who you are.",
            "Send `Authorization: Bearer TOKEN`, or sign in where this installation says so.",
        )
        answer = self._answer(scope, problem)
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _answer(self, scope: Scope, problem: Problem) -> Response:
        if "/api/" in scope["path"] or "text/html" not in (header(scope, "accept") or ""):
            return problem.response()
        return self._show(scope, problem)


def _under(scope: Scope, root_path: str) -> Scope:
    """The scope as it is where the app is mounted under a path."""
    path = scope["path"]
    whole = path if path.startswith(f"{root_path}/") else f"{root_path}{path}"
    return {**scope, "root_path": root_path, "path": whole}


def known_hosts(host: str, others: tuple[str, ...]) -> Callable[[str], bool]:
    """Tells the console's own names: the host it listens on, and those configured."""

    def is_known(name: str) -> bool:
        plain = name.rpartition(":")[0] if name.rpartition(":")[2].isdecimal() else name
        plain = plain.lower()
        if plain == host.lower() or plain in others or name.lower() in others:
            return True
        return is_loopback(host) and is_loopback(plain)

    return is_known


class _Body:
    """Counts the body as it comes in."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._body_bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._body_bytes += len(message.get("body", b""))
        if self._body_bytes > BODY_MAX_BYTES:
            raise _too_large()
        return message


class _Sender:
    """Adds the headers that every answer has, where a handler did not set its own."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            given = {key.lower() for key, _ in message["headers"]}
            extra = [(key, value) for key, value in _HEADERS.items() if key not in given]
            message = {**message, "headers": [*message["headers"], *extra]}
        await self._send(message)


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """Who sent a request that came through the guard."""
    principal: Principal = scope["state"]["principal"]
    return principal
