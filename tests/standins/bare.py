"""The AWS SDK's serializers on one plain connection to a stand-in, in a tenth of the SDK's time.

For what every test needs and none is about: a stack of its own. Nothing here signs, retries,
resolves endpoints or runs hooks, as the SDK's own clients do, which take 45 ms to be made.
"""

from __future__ import annotations

import http.client
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit

import botocore.loaders
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import ServiceModel
from botocore.parsers import ResponseParserFactory
from botocore.serialize import create_serializer

_TIMEOUT_SECONDS = 30.0


@cache
def _model(service: str) -> ServiceModel:
    return ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)


@cache
def _operations(service: str) -> dict[str, str]:
    return {xform_name(name): name for name in _model(service).operation_names}


class BareClients:
    """In the place of `Clients`, for `create_stack`; a context manager.

    Args:
        url: of the stand-in.
        region: that its calls are for.
    """

    def __init__(self, url: str, region: str) -> None:
        self.region = region
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_SECONDS)

    async def get(self, service: str) -> BareClient:
        return BareClient(self, service)

    def __enter__(self) -> BareClients:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(self, service: str, operation: str, arguments: dict[str, Any]) -> Any:
        """Make a call, and wait for its answer without giving way to anybody.

        Raises:
            ClientError: it was refused.
        """
        model = _model(service).operation_model(operation)
        protocol = model.service_model.protocol
        asked = create_serializer(protocol).serialize_to_request(arguments, model)
        query = urlencode(asked["query_string"]) if asked["query_string"] else ""
        path = asked["url_path"] + (("&" if "?" in asked["url_path"] else "?") + query if query else "")
        scope = f"test/20260101/{self.region}/{service}/aws4_request"  # by which a stand-in knows the service
        signed = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
        self._connection.request(
            asked["method"], path, asked["body"] or b"", {**asked["headers"], "Authorization": signed}
        )
        answer = self._connection.getresponse()
        given = {"status_code": answer.status, "headers": dict(answer.getheaders()), "body": answer.read()}
        parsed = ResponseParserFactory().create_parser(protocol).parse(given, model.output_shape)
        if answer.status >= http.client.MULTIPLE_CHOICES:
            raise ClientError(parsed, operation)
        return parsed


class BareClient:
    """One service's client: an operation is a method, named as the SDK names it."""

    def __init__(self, clients: BareClients, service: str) -> None:
        self._clients = clients
        self._service = service

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        operation = _operations(self._service)[name]

        async def call(**arguments: Any) -> Any:
            return self._clients.call(self._service, operation, arguments)

        return call
