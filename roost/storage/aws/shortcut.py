"""The short way of a call to DynamoDB: a third of the CPU that the SDK takes for it.

For each call the SDK resolves the endpoint by rules, walks over the service's model to write
and to read JSON, and signs by general means; that is most of what a step costs its worker.
None of it differs from call to call. So the SDK is once let make a request, which is looked at
and not sent, and that is the pattern of all calls (`signing.py`). Their JSON is written and
read as the low-level API has it, bytes apart, and sent by the SDK's own HTTP session.

The SDK's credentials, endpoint, timeouts, retries, events and errors stay as they are. Where
the SDK's request is not of the known kind, its calls go its way, always.
"""

from __future__ import annotations

from binascii import a2b_base64, crc32
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError

from roost.clock import SystemClock
from roost.storage.aws.signing import Pattern, pattern_of, signed_headers

Document = dict[str, Any]

OPERATIONS = frozenset(
    {
        "BatchExecuteStatement",
        "BatchGetItem",
        "BatchWriteItem",
        "DeleteItem",
        "GetItem",
        "PutItem",
        "Query",
        "Scan",
        "TransactWriteItems",
        "UpdateItem",
    }
)
"""Of these all parameters and members are as they go over the wire, but for bytes."""
_FIRST_ERROR_STATUS = 300


@dataclass(frozen=True, slots=True)
class _Request:
    """What the SDK's HTTP session needs of a request."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"
    stream_output: bool = False


@dataclass(frozen=True, slots=True)
class _Nothing:
    """An HTTP response that says nothing, in the form of the SDK."""

    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    async def content(self) -> bytes:
        return b"{}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """An HTTP response, as the SDK's events have it, and what it says."""

    http: Any
    parsed: Document


class Shortcut:
    """Takes the place of a DynamoDB client's way to make calls.

    Args:
        client: of the SDK.
        credentials: gives those of the client's session; they renew themselves.
    """

    def __init__(self, client: Any, credentials: Callable[[], Awaitable[Any]]) -> None:
        self._client = client
        self._credentials = credentials
        self._long_way = client._make_api_call
        self._session: Any = getattr(getattr(client, "_endpoint", None), "http_session", None)
        self._models = {name: client.meta.service_model.operation_model(name) for name in OPERATIONS}
        self._pattern: Pattern | None = None
        self._clock = SystemClock()  # of AWS; never one that a test moved

    async def install(self) -> None:
        """Have the client's calls go this way, if its requests are of the known kind."""
        if not hasattr(self._session, "send"):
            return
        events = self._client.meta.events
        events.register_last("before-send.dynamodb", self._look)
        with suppress(BotoCoreError):  # no credentials: the first call says so
            await self._client.get_item(TableName="any", Key={})
        events.unregister("before-send.dynamodb", self._look)
        if self._pattern is not None:
            self._client._make_api_call = self._call

    def _look(self, request: Any, **_: Any) -> _Nothing:
        """See a request of the SDK, and keep it from being sent."""
        self._pattern = pattern_of(request.url, request.headers.items())
        return _Nothing()

    async def _call(self, operation: str, params: Document) -> Document:
        """Make a call; as `_make_api_call` of the SDK."""
        credentials = await self._credentials()
        if self._pattern is None or credentials is None or operation not in OPERATIONS:
            long_way: Document = await self._long_way(operation, params)
            return long_way
        events, context = self._client.meta.events, {}  # type: ignore[var-annotated]
        about = {"model": self._models[operation], "context": context}
        await events.emit(f"provide-client-params.dynamodb.{operation}", params=params, **about)
        request = {"body": msgspec.json.encode(params), "headers": {}, "context": context}
        signer = self._client._request_signer
        _, given = await events.emit_until_response(
            f"before-call.dynamodb.{operation}", params=request, request_signer=signer, **about
        )
        if given is None:
            answer = await self._send(self._pattern, operation, request, credentials)
        else:
            answer = _Answer(*given)
        await events.emit(
            f"after-call.dynamodb.{operation}", http_response=answer.http, parsed=answer.parsed, **about
        )
        if answer.http.status_code >= _FIRST_ERROR_STATUS:
            error = self._client.exceptions.from_code(answer.parsed.get("Error", {}).get("Code"))
            raise error(answer.parsed, operation)
        return answer.parsed

    async def _send(self, pattern: Pattern, operation: str, request: Document, credentials: Any) -> _Answer:
        """Send until there is an answer that the SDK's retries are content with.

        Raises:
            BotoCoreError: there was none.
            ResponseParserError: it makes no sense.
        """
        attempts = 0
        while True:
            attempts += 1
            answer, failed = await self._try(pattern, operation, request["body"], credentials)
            if answer is not None and failed is None and answer.http.status_code < _FIRST_ERROR_STATUS:
                return answer
            pauses = await self._client.meta.events.emit(
                f"needs-retry.dynamodb.{operation}",
                response=None if answer is None else (answer.http, answer.parsed),
                endpoint=self._client._endpoint,
                operation=self._models[operation],
                attempts=attempts,
                caught_exception=failed,
                request_dict=request,
            )
            pause = next((pause for _, pause in pauses if pause is not None), None)
            if pause is not None:
                await self._clock.sleep(pause)
            elif failed is not None:
                raise failed
            else:
                assert answer is not None
                return answer

    async def _try(
        self, pattern: Pattern, operation: str, body: bytes, credentials: Any
    ) -> tuple[_Answer | None, Exception | None]:
        """Send once: the answer, or what went wrong, or both where an answer makes no sense."""
        keys = await credentials.get_frozen_credentials()
        headers = signed_headers(pattern, operation, body, keys, self._clock.now())
        try:
            http = await self._session.send(_Request(pattern.url, headers, body))
        except BotoCoreError as error:  # no connection, no answer in time, …
            return None, error
        content: bytes = await http.content
        try:
            parsed = _parsed(http, content)
        except ResponseParserError as error:
            return _Answer(http, {"ResponseMetadata": _metadata(http)}), error
        return _Answer(http, parsed), None


# --- answers -----------------------------------------------------------------


def _parsed(http: Any, content: bytes) -> Document:
    """What an answer says, in the form of the SDK.

    Raises:
        ResponseParserError: it was damaged on its way.
    """
    checksum = http.headers.get("x-amz-crc32")
    if checksum is not None and int(checksum) != crc32(content):
        raise ResponseParserError("the reply's checksum does not match")
    is_error = http.status_code >= _FIRST_ERROR_STATUS
    try:
        document = msgspec.json.decode(content) if content else {}
        if not isinstance(document, dict):
            raise ResponseParserError("the reply is no JSON object")
    except msgspec.DecodeError as error:
        if not is_error:
            raise ResponseParserError(f"the reply is no JSON: {error}") from error
        document = {}  # of something in between, such as a load balancer
    found: Document = _with_bytes(document)
    if is_error:
        code = str(found.pop("__type", http.status_code)).rpartition("#")[2]
        message = found.pop("message", None) or found.pop("Message", None) or ""
        found["Error"] = {"Code": code, "Message": message}
    found["ResponseMetadata"] = _metadata(http)
    return found


def _metadata(http: Any) -> Document:
    return {"HTTPStatusCode": http.status_code, "HTTPHeaders": http.headers}


def _with_bytes(found: Any) -> Any:
    """The same, with bytes in place of their base64: where a value has the sole member `B`."""
    if isinstance(found, list):
        return [_with_bytes(one) for one in found]
    if not isinstance(found, dict):
        return found
    if len(found) == 1 and isinstance(data := found.get("B"), str):
        return {"B": a2b_base64(data)}
    return {name: _with_bytes(one) for name, one in found.items()}
