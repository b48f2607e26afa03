"""The console over real storage, served by uvicorn in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from roost.config import Settings
from roost.console.app import create_app
from roost.driving import Drivers
from roost.wiring import Runtime
from tests.console.conftest import opened

START_SECONDS = 30.0


@contextmanager
def served(
    settings: Settings, seed: Callable[[Runtime], Awaitable[Any]], *, drives: bool = False
) -> Iterator[str]:
    """The address of the console, once `seed` has been run on its storage."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    started, servers = threading.Event(), []

    async def serve() -> None:
        async with opened(settings) as runtime:
            try:
                await seed(runtime)
                drivers = Drivers(runtime) if drives else None
                app = create_app(runtime, settings, drivers=drivers)
                server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
                servers.append(server)
            finally:
                started.set()
            await server.serve(sockets=[listener])
            if drivers is not None:
                await drivers.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(START_SECONDS)
    try:
        assert servers, "the storage could not be seeded"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(START_SECONDS)
        listener.close()
