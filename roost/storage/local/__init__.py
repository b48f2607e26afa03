"""The embedded default backend: SQLite and content-addressed files, no server."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from roost.clock import Clock
from roost.storage.local.backend import LocalBackend, open_local

__all__ = ["LocalBackend", "open_local", "open_url"]


class HasHome(Protocol):
    """What this backend needs of the settings."""

    home: Path


async def open_url(url: str, settings: HasHome, clock: Clock) -> LocalBackend:
    """The entry point of scheme `local`: `local` is ROOST_HOME, `local:/path` another place."""
    path = unquote(url.partition(":")[2]).removeprefix("//")
    return await open_local(Path(path) if path else settings.home, clock=clock)
