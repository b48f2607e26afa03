"""The settings that count, where each comes from, and what the storage says of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from roost.config import Settings
from roost.console.desk import desk_of
from roost.console.redaction import HIDDEN
from roost.console.roles import TABLE

_SECRET = re.compile(r"password|passwd|secret|token|key|credential|authorization", re.IGNORECASE)
_SECRET_URL = re.compile(r"://[^/@\s]*:[^/@\s]*@")
CHECK_SECONDS = 30.0


async def settings(request: Request) -> Response:
    """`GET /settings`."""
    desk = desk_of(request)
    checks = await desk.shared.get("check", desk.runtime.backend.check, for_seconds=CHECK_SECONDS)
    return await desk.page(
        request, "settings.html", rows=list(shown(desk.settings)), checks=checks, roles=TABLE
    )


def shown(values: Settings) -> Iterator[tuple[str, str, str]]:
    """Name, value and source of each setting; secrets are hidden."""
    yield from _rows("", values.model_dump(), values.sources)


def _rows(
    under: str, values: Mapping[str, Any], sources: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for name, value in values.items():
        path = f"{under}{name}"
        if isinstance(value, Mapping) and value:
            yield from _rows(f"{path}.", value, sources)
        else:
            yield path, hide(name, value), sources.get(path, "default")


def hide(name: str, value: Any) -> str:
    """A value as text; hidden where it is secret, or its name says so."""
    if isinstance(value, SecretStr) or (_SECRET.search(name) and value not in (None, "")):
        return HIDDEN
    if isinstance(value, Path | str):
        return _SECRET_URL.sub(f"://{HIDDEN}@", str(value))
    match value:
        case None:
            return ""
        case tuple():
            return ", ".join(map(str, value))
        case bool():
            return str(value).lower()  # as in the file
        case float():
            return f"{value:.15g}"
    return str(value) if value != {} else ""
