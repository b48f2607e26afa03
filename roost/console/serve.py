"""Serves the console with uvicorn, as `roost ui` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import SecretStr

from roost import clock
from roost.config import ConsoleSettings, Settings
from roost.console.app import create_app
from roost.console.installed import engines_here
from roost.console.links import link_of
from roost.console.principal import Authenticator
from roost.core import bundles
from roost.driving import Drivers
from roost.errors import SettingsError
from roost.wiring import open_runtime

_GRACE_SECONDS = 2  # streams are cut after it


def with_token(console: ConsoleSettings) -> ConsoleSettings:
    """The settings, with an admin's token made up where `token` is asked for and none is set."""
    if console.auth != "token" or console.admin_token or console.operator_token or console.viewer_token:
        return console
    return console.model_copy(update={"admin_token": SecretStr(clock.secret())})


async def serve(
    settings: Settings,
    say: Callable[[str], None],
    root_path: str = "",
    *,
    bundle: Path | None = None,
    is_read_only: bool = False,
) -> None:
    """Serve until told to stop.

    Args:
        say: is told the address, once the console listens.
        root_path: what a proxy in front takes off all paths.
        bundle: shown instead of the storage; nobody can act on it.
        is_read_only: nobody can act on the storage either, and nothing is done for operations.

    Raises:
        SettingsError: the address can't be listened on, or anybody could act.
    """
    if bundle is not None:
        settings = _of_bundle(settings, bundle)
    settings = settings.model_copy(update={"console": with_token(settings.console)})
    console = settings.console
    async with open_runtime(settings) as runtime:
        if bundle is not None:
            await bundles.load(runtime.backend, bundle)
        runtime = replace(runtime, engines=engines_here(settings))
        authenticator = Authenticator(
            console, runtime.parts.clock, is_read_only=is_read_only or bundle is not None
        )
        drivers = None if is_read_only else Drivers(runtime)
        app = create_app(
            runtime,
            settings,
            root_path=root_path,
            authenticator=authenticator,
            link=link_of(runtime),
            drivers=drivers,
        )
        config = uvicorn.Config(
            app,
            host=console.host,
            port=console.port,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = uvicorn.Server(config)
        try:
            socket = config.bind_socket()
        except SystemExit:  # uvicorn's way to say that it can't
            raise SettingsError(
                f"{console.host} port {console.port} can't be listened on",
                hint="Another program has it, or the address is not this machine's; try --port 0.",
            ) from None
        host = f"[{console.host}]" if ":" in console.host else console.host
        address = f"http://{host}:{socket.getsockname()[1]}{root_path}/"
        if console.auth == "token":
            address += f"login?once={authenticator.make_once()}"
        try:
            if drivers is not None:
                await drivers.take_up_all()
            socket.listen(config.backlog)  # who is told the address may come at once
            say(address)
            await server.serve(sockets=[socket])
        finally:
            socket.close()
            if drivers is not None:
                await drivers.close()


def _of_bundle(settings: Settings, bundle: Path) -> Settings:
    """The settings for a bundle: its entries are kept in memory, and its name is on every page."""
    console = settings.console.model_copy(update={"label": f"bundle {bundle.name}"[:40]})
    changes: dict[str, Any] = {
        "storage": "memory:",
        "artifacts": None,
        "namespace": "",
        "schedules": {},
        "console": console,
    }
    return settings.model_copy(update=changes)
