"""The console's function behind an HTTP API on a port: `python -m tests.hosting.console_api`.

Requests become events of payload format 2.0, and Lambda's own handler answers them, one after the
other, as a function's container does. Settings come from the environment, as there.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from roost.hosting import lambda_console
from roost.hosting.container import LambdaContext
from tests.hosting.api import ApiGateway


class Function:
    """A container of the function."""

    def __init__(self) -> None:
        self._one_at_a_time = ThreadPoolExecutor(1)

    async def answer(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._one_at_a_time, lambda_console.handler, event, context)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"the console is at http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
        config = uvicorn.Config(ApiGateway(Function()), log_level="warning", lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
