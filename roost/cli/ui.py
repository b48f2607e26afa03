"""`roost ui`: the operator's console."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roost.cli import options
from roost.cli.output import say
from roost.errors import SettingsError


def ui(
    host: Annotated[
        str | None, typer.Option("--host", help="Where it listens; by default 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="By default 8319; 0 takes a free one.")
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option("--auth", metavar="WAY", help="none (this machine only), token, headers or gateway."),
    ] = None,
    root_path: Annotated[
        str, typer.Option("--root-path", metavar="PATH", help="What a proxy in front takes off all paths.")
    ] = "",
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Nobody can act on it, whoever signs in; nothing is written.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="Show what `roost export` wrote, read-only."),
    ] = None,
    storage: options.Storage = None,
    home: options.Home = None,
    config: options.Config = None,
) -> None:
    """Serve the console: see what the fleet does, find what is wrong, mend it. Ctrl-C ends it.

    By default it listens on this machine only and asks for no password. On any other address it
    refuses to start without --auth. With `--auth token` and no token in the settings, it prints an
    address that signs you in, once.

    Examples:

      roost ui

      roost ui --auth token --port 0 --open

      roost ui --read-only

      roost ui --bundle incident.roost
    """
    import asyncio
    from importlib.util import find_spec

    missing = [
        name for name in ("starlette", "jinja2", "uvicorn", "sse_starlette") if find_spec(name) is None
    ]
    if missing:
        raise SettingsError(
            f"the console needs {', '.join(missing)}", hint="pip install 'roost-runtime[console]'"
        )
    from roost.console.serve import serve

    settings = options.settings_of(storage, home, config, console={"host": host, "port": port, "auth": auth})

    def announce(address: str) -> None:
        say(f"the console is at {address}")
        if open_browser:
            import webbrowser

            webbrowser.open(address)

    asyncio.run(serve(settings, announce, root_path.rstrip("/"), bundle=bundle, is_read_only=read_only))
