"""The console as a server of its own."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from roost.config import ConsoleSettings, Settings
from roost.console.serve import serve


class Told(Exception):
    """Ends the server from within."""


async def test_its_address_can_be_connected_to_once_it_is_told() -> None:
    def say(address: str) -> None:
        place = urlsplit(address)
        with socket.create_connection((place.hostname, place.port), timeout=5):
            raise Told

    with pytest.raises(Told):
        await serve(Settings(storage="memory:", console=ConsoleSettings(port=0)), say)
