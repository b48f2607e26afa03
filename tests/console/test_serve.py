"""The console as a server of its own."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx2
import pytest

from roost.config import ConsoleSettings, Settings
from roost.console.serve import serve


class Told(Exception):
    """Ends the server from within."""


@pytest.mark.parametrize("is_read_only", [True, False])
async def test_nobody_can_act_where_it_is_read_only(is_read_only: bool) -> None:
    status: list[int] = []

    async def act(address: str) -> None:
        async with httpx2.AsyncClient(timeout=5) as web:
            answer = await web.post(f"{address}api/v1/work", json={"engine": "demo"})
            status.append(answer.status_code)
            assert (await web.get(f"{address}api/v1/work")).status_code == HTTPStatus.OK

    def say(address: str) -> None:
        acting.append(asyncio.create_task(act(address)))
        acting[0].add_done_callback(lambda _: serving.cancel())

    acting: list[asyncio.Task[None]] = []
    settings = Settings(storage="memory:", console=ConsoleSettings(port=0))
    serving = asyncio.create_task(serve(settings, say, is_read_only=is_read_only))
    await asyncio.gather(serving, return_exceptions=True)
    await acting[0]
    assert status == [HTTPStatus.FORBIDDEN if is_read_only else HTTPStatus.CREATED]


async def test_its_address_can_be_connected_to_once_it_is_told() -> None:
    def say(address: str) -> None:
        place = urlsplit(address)
        with socket.create_connection((place.hostname, place.port), timeout=5):
            raise Told

    with pytest.raises(Told):
        await serve(Settings(storage="memory:", console=ConsoleSettings(port=0)), say)
