"""The command line of `roost worker`, read without typer where it is right as it stands.

Typer, and the modules of all commands that it is told of, would be 4 MB of a worker's memory and
a fifth of the CPU time of its start. What is not understood here is typer's, which says what is
wrong with it, or helps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_PORT_MAX = 65535


class WorkerLine(NamedTuple):
    """What the command line says; None where it says nothing."""

    engines: str | None = None
    lanes: str | None = None
    concurrency: int | None = None
    lease_seconds: str | None = None
    grace_seconds: str | None = None
    health_port: int | None = None
    metrics_port: int | None = None
    until_idle: bool = False
    storage: str | None = None
    home: Path | None = None
    config: Path | None = None


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= _PORT_MAX:
        raise ValueError(text)
    return port


UNTIL_IDLE = "--until-idle"
OPTIONS: dict[str, Callable[[str], Any]] = {
    "--engines": str,
    "--lanes": str,
    "--concurrency": int,
    "--lease-seconds": str,
    "--grace-seconds": str,
    "--health-port": _port,
    "--metrics-port": _port,
    "--storage": str,
    "--home": Path,
    "--config": Path,
}
"""Those with a value, and what that is; the name of each is that of its field."""


def read(arguments: Sequence[str]) -> WorkerLine | None:
    """Read what follows `roost`; None: it is for another command, or not right, or not plain."""
    if not arguments or arguments[0] != "worker":
        return None
    given: dict[str, Any] = {}
    words = iter(arguments[1:])
    for word in words:
        name, has_value, text = word.partition("=")
        if word == UNTIL_IDLE:
            given["until_idle"] = True
            continue
        if not has_value:
            text = next(words, "")
        if name not in OPTIONS or not text or text.startswith("-"):
            return None
        try:
            given[name.removeprefix("--").replace("-", "_")] = OPTIONS[name](text)
        except ValueError:
            return None
    return WorkerLine(**given)
