"""What every handler is given: the runtime, the reads, the templates; and who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from roost.config import Settings
from roost.console.freshness import Looks
from roost.console.html import Pages, age, ago, hour
from roost.console.principal import Authenticator, Principal
from roost.console.problems import Problem
from roost.console.pulse import Pulse
from roost.console.reads import Reads
from roost.console.redaction import Redaction
from roost.console.roles import Deed, Role, lacks
from roost.console.sealed import Seals
from roost.console.shared import Shared
from roost.core import requests
from roost.core.client import Client, WorkView
from roost.core.why import why
from roost.driving import Drivers
from roost.journal.accounts import Balance
from roost.journal.claims import ResourceView
from roost.journal.events import Switch
from roost.journal.explain import Explanation
from roost.journal.lines import engine_target
from roost.models import Artifact, State
from roost.wiring import Runtime

THEME_COOKIE = "roost_theme"
THEMES = ("light", "dark")
ALIVE_SECONDS = 600.0  # a worker that wrote nothing for so long is not taken for alive
LIVE_HEADER = "x-roost-live"


@dataclass(slots=True)
class Streams:
    """How many pages listen."""

    count: int = 0


Link = Callable[[Artifact], Awaitable[str]]
"""Gives an address under which a browser finds an artifact's bytes for a while."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What handlers share; one for each app.

    Attributes:
        link: where the host can't send large answers; then downloads are led there.
        drivers: run operations in this process; None: workers alone do.
    """

    runtime: Runtime
    settings: Settings
    reads: Reads
    shared: Shared
    pulse: Pulse
    looks: Looks
    pages: Pages
    authenticator: Authenticator
    redaction: Redaction
    seals: Seals
    streams: Streams
    link: Link | None = None
    drivers: Drivers | None = None

    def take_up(self, work_id: str) -> None:
        """Work on an operation in this process, where it may."""
        if self.drivers is not None:
            self.drivers.take_up(work_id)

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.runtime.parts.clock.now()

    def client(self, principal: Principal, request: requests.Request | None = None) -> Client:
        """A client that writes into the journal who asked.

        Args:
            request: under an idempotency key, which it carries out.
        """
        return Client(
            self.runtime.parts,
            engines=self.runtime.engines,
            actor=principal.actor,
            namespace=self.settings.namespace,
            request=request,
        )

    def engine_target(self, engine: str) -> str:
        """How switches name an engine of the console's namespace."""
        return engine_target(engine, self.settings.namespace)

    async def explain(self, view: WorkView) -> Explanation:
        """Why a work item is where it is."""
        item = view.item
        return await why(self, item.work_id, view.control, view.row, item.resources, self.now)

    async def resource(self, name: str) -> Sequence[ResourceView]:
        """See `Reads`."""
        return await self.reads.resource(name)

    async def backlog(self) -> int:
        """See `Reads`."""
        return await self.reads.backlog()

    async def paused(self) -> Sequence[Switch]:
        """See `Reads`."""
        return await self.reads.switches()

    async def balances(self, work_id: str) -> Sequence[Balance]:
        """See `Client`."""
        return await self.runtime.client.balances(work_id)

    async def engines_seen(self) -> frozenset[str] | None:
        """What workers that live ran lately; None: no worker was seen, so nothing is known."""
        await self.pulse.refresh()
        alive = [seen for seen in self.pulse.workers.values() if seen.last_at > self.now - ALIVE_SECONDS]
        return frozenset(engine for seen in alive for engine in seen.engines) if alive else None

    async def page(self, request: Request, template: str, **context: Any) -> Response:
        """A page with its frame; the frame is left out where a script asks for what changed."""
        counts = (await self.reads.counts()).of
        frame = self.frame(request, **context)
        frame["failed_count"] = counts[State.FAILED]
        return self.pages.response(request, template, frame)

    def frame(self, request: Request, **context: Any) -> dict[str, Any]:
        """What the frame of every page needs, with what the page itself needs."""
        now = self.now
        principal: Principal | None = request.scope.get("state", {}).get("principal")
        root = request.scope.get("root_path", "")
        theme = request.cookies.get(THEME_COOKIE, "")
        return {
            "now": now,
            "ago": partial(ago, now=now),
            "age": partial(age, now=now),
            "hour": hour,
            "principal": principal,
            "can_act": principal is not None and principal.role.covers(Role.OPERATOR),
            "lacks": lambda deed: lacks(principal.role if principal is not None else None, Deed(deed)),
            "root": root,
            "path": request.url.path.removeprefix(root) or "/",
            "query": request.url.query,
            "build": self.pages.build,
            "theme": theme if theme in THEMES else "",
            "lease_seconds": self.runtime.parts.settings.lease_seconds,
            "label": self.settings.console.label,
            "namespace": self.settings.namespace,
            "storage": self.runtime.backend.url,
            "version": version("roost-runtime"),
            "layout": "live.html" if request.headers.get(LIVE_HEADER) else "frame.html",
            "has_login": self.authenticator.has_login,
            "flash": FLASHES.get(request.query_params.get("did", "")),
            "failed_count": 0,
            "is_blind": self.pulse.is_denied,
            "states": State,
            **context,
        }


FLASHES: Mapping[str, str] = {
    "approve": "Answered.",
    "enqueue": "Enqueued.",
    "operation": "Begun. This page shows how far it is.",
    "cancel": "Asked to end. A running step may finish first.",
    "retry": "Put back to life; a worker takes it from its last version.",
    "signal": "Signal delivered; the next step sees it.",
    "pause": "Paused. A running step finishes first.",
    "resume": "Goes on.",
    "budget": "The budget is set; work that was over it goes on if it suffices now.",
    "daily": "The budget of the day is set; work that was parked for it goes on if it suffices now.",
    "evict": "Taken away; whoever is first in line is next.",
    "fork": "Forked; this is the new work.",
    "messages": "Done with the messages that were there.",
    "switch": "Switched; workers see it at their next sweep.",
    "limits": "The limits are set; what is held stays held.",
}
"""What a page says after an action."""


def desk_of(request: Request) -> Desk:
    """The desk of the app that serves a request."""
    desk: Desk = request.app.state.desk
    return desk


def int_of(request: Request, name: str, default: int, *, low: int, high: int) -> int:
    """A whole number of the query, held within bounds.

    Raises:
        Problem: it is none.
    """
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.lstrip("-").isdecimal() or len(text) > 12:
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_query", f"{name} is {text[:40]!r}, not a whole number.")
    return min(max(int(text), low), high)
