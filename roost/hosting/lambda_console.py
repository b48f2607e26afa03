"""The console as a function behind an HTTP API: `roost.hosting.lambda_console.handler`.

Pages are refreshed by polling, since nothing can be streamed; artifacts are downloaded from S3
itself by links that are good for some minutes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from roost.config import Settings, load_settings
from roost.console.app import create_app
from roost.console.installed import engines_here
from roost.console.links import link_of
from roost.hosting.container import Container, LambdaContext
from roost.hosting.gateway import Gateway
from roost.storage.aws import backend as _preloaded  # noqa: F401  while a cold start has a whole CPU
from roost.wiring import Runtime

_NAMES_MAX = 8  # of one API
_DEFAULT_STAGE = "$default"


class Consoles:
    """The console under each name that the API has: its own, and those of mapped domains."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._made: dict[tuple[str, str], Gateway] = {}

    def under(self, domain: str, stage: str) -> Gateway:
        """The one for a name and stage. API Gateway lets no request in that is for another."""
        known = self._made.get((domain, stage))
        if known is None:
            settings = load_settings()
            console = settings.console
            named = console.model_copy(update={"hosts": (*console.hosts, domain.lower())})
            known = console_of(self._runtime, settings.model_copy(update={"console": named}), stage)
            self._made[domain, stage] = known
            if len(self._made) > _NAMES_MAX:
                del self._made[next(iter(self._made))]
        return known


@cache
def container() -> Container[Consoles]:
    """That of this process."""
    return Container(Consoles, actor="lambda-console", has_engines=False)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request.

    Args:
        event: payload format 2.0 of an HTTP API. Its stage should be `$default`; a named one
            stands before all paths.
    """

    async def use(consoles: Consoles) -> dict[str, Any]:
        request = event["requestContext"]
        return await consoles.under(request["domainName"], request["stage"]).answer(event, context)

    return container().run(use)


def console_of(runtime: Runtime, settings: Settings, stage: str = _DEFAULT_STAGE) -> Gateway:
    """The console behind API Gateway.

    Raises:
        SettingsError: what signing in needs is missing.
    """
    base_path = "" if stage == _DEFAULT_STAGE else f"/{stage}"
    runtime = replace(runtime, engines=engines_here(settings))
    return Gateway(create_app(runtime, settings, link=link_of(runtime)), base_path=base_path)
