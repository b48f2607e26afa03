"""Fetching a URL that somebody else chose, without becoming their tool.

Who can enqueue a URL could otherwise make a worker ask what only the worker can reach:
cloud metadata (and with it the worker's credentials), localhost, the private network.
So: http and https only, no credentials, each name is resolved once, every address it
has must be public, and the connection goes to the address that was checked, so a name
that changes in between (DNS rebinding) gains nothing. Redirects are followed by hand,
each under the same rules. Proxies and certificates of the environment are ignored,
nothing is kept between two fetches, and time and size are bounded.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import socket
import zlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from roost.errors import RoostError

if TYPE_CHECKING:
    import ssl

    import httpx2

URL_MAX_CHARS = 2048
CONNECT_ADDRESSES_MAX = 4  # addresses of one name that are tried, in the resolver's order
_RAW_SLACK_BYTES = 65_536  # what gzip's framing may add to a body that doesn't shrink
_ERROR_MAX_CHARS = 200

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f]")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)
# Only plain tables: Python also has "text encodings" that are slow (punycode) or no charset.
_TABLES = re.compile(r"utf-(8|16|32)|ascii|iso8859|iso2022|cp\d|koi8|gb|big5|euc|shift_jis")

# All of IPv6 that is handed out for global unicast (IANA, "IPv6 Global Unicast Address
# Assignments"); what lies outside is local, multicast, embedded or reserved.
_IPV6_GLOBAL = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052 section 2.1: the last 32 bits are an IPv4 address
# Not global, though `ipaddress` of Python 3.11 says so.
_NOT_GLOBAL = (
    ip_network("192.0.0.0/24"),  # IANA special purpose; a cloud has its metadata at 192.0.0.192
    ip_network("192.88.99.0/24"),  # RFC 7526: the retired 6to4 relays
    ip_network("168.63.129.16/32"),  # Microsoft Learn, "What is IP address 168.63.129.16?": Azure's host
    ip_network("3fff::/20"),  # RFC 9637: documentation
)

Resolve = Callable[[str, int], Awaitable[list[str]]]


class AddressRefused(RoostError):
    """The URL, or a redirect, leads to an address that is not public.

    Attributes:
        host: the name or address in the URL.
        address: the address that is refused.
    """

    def __init__(self, host: str, address: str, why: str) -> None:
        leads = f"{host[:100]} has the address {address}" if host != address else address
        super().__init__(f"refused: {leads}, which is {why}")
        self.host = host
        self.address = address


class FetchFailed(RoostError):
    """There is no answer to observe; the message is short and has no path, query or body in it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer.

    Attributes:
        url: where it came from, after redirects.
        status: the HTTP status.
        body: its first `max_bytes` bytes, decompressed.
        truncated: the body was longer.
        content_type: as the server gave it; may be empty.
    """

    url: str
    status: int
    body: bytes
    truncated: bool
    content_type: str

    @property
    def text(self) -> str:
        """The body in the charset that its content type names, else UTF-8; faults become U+FFFD."""
        return self.body.decode(_charset(self.content_type), errors="replace")


def url_fault(url: str) -> str | None:
    """What is wrong with a URL, as far as it can be told without asking anybody; None: nothing."""
    if len(url) > URL_MAX_CHARS:
        return f"URL has more than {URL_MAX_CHARS} characters"
    if _BLANK_OR_CONTROL.search(url):
        return "URL has blanks or control characters"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "URL is not well-formed"
    if parts.scheme not in _PORTS:
        return f"scheme {parts.scheme[:20]!r} is refused: only http and https are fetched"
    if "@" in parts.netloc:
        return "URL has credentials in it, which would end up in history and logs"
    return None if host else "URL has no host"


def address_fault(address: str) -> str | None:
    """Why an IP address may not be connected to, or None if it is public.

    An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) is judged as the IPv4
    address that packets end up at.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "not an IP address"
    inner = _embedded(parsed) if isinstance(parsed, IPv6Address) else None
    if inner is not None:
        return address_fault(str(inner))
    if parsed.is_link_local:
        return "link-local (cloud metadata is there)"
    is_outside = parsed.version == 6 and parsed not in _IPV6_GLOBAL
    if is_outside or parsed.is_multicast or any(parsed in net for net in _NOT_GLOBAL):
        return "not a public address"
    return None if parsed.is_global else "not a public address"


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


async def resolve_name(host: str, port: int) -> list[str]:
    """The addresses of a name, each once, in the order of the system's resolver.

    Raises:
        FetchFailed: it has none.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchFailed(f"cannot resolve {host[:100]}") from None
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(frozen=True, slots=True)
class _Rules:
    allow_private: bool
    timeout_seconds: float
    max_bytes: int
    max_redirects: int
    resolve: Resolve


async def fetch(
    url: str,
    *,
    allow_private: bool,
    timeout_seconds: float,
    max_bytes: int,
    max_redirects: int = 3,
    resolve: Resolve = resolve_name,
) -> Fetched:
    """GET a URL and follow its redirects.

    Any status is an answer. A name whose addresses are partly public is refused as a
    whole. A name lookup that hangs is given up at the deadline, but the system's
    resolver ends it in its own time, in its thread.

    Args:
        url: http or https, without credentials.
        allow_private: connect to any address; for private networks and tests.
        timeout_seconds: for everything: lookups, all redirects, the whole body.
        max_bytes: of the body after decompression; no more than that is held.
        max_redirects: how many are followed.
        resolve: looks up a name.

    Raises:
        AddressRefused: it leads to an address that is not public.
        FetchFailed: there is no answer, or not one that may be taken.
    """
    import httpx2  # here, since it takes longer to import than the rest of Roost

    rules = _Rules(allow_private, timeout_seconds, max_bytes, max_redirects, resolve)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _follow(url, rules)
    except (TimeoutError, httpx2.TimeoutException):
        raise FetchFailed(f"no complete answer within {timeout_seconds:g} s") from None
    except httpx2.ConnectError as error:
        raise FetchFailed(f"cannot connect: {str(error)[:_ERROR_MAX_CHARS]}") from None
    except zlib.error:
        raise FetchFailed("the gzip body is damaged") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        # Its text can quote what the server sent, so only its kind is told.
        raise FetchFailed(f"the exchange broke off ({type(error).__name__})") from None


async def _follow(url: str, rules: _Rules) -> Fetched:
    fault = url_fault(url)
    if fault is not None:
        raise FetchFailed(fault)
    target = _parse(url)
    for _ in range(rules.max_redirects + 1):
        answer = await _get(target, rules)
        if isinstance(answer, Fetched):
            return answer
        target = answer
    raise FetchFailed(f"more than {rules.max_redirects} redirects")


def _parse(url: str, base: httpx2.URL | None = None) -> httpx2.URL:
    import httpx2

    where = "URL" if base is None else "redirect"
    try:
        parsed = httpx2.URL(url) if base is None else base.join(url)
    except (httpx2.InvalidURL, ValueError):
        raise FetchFailed(f"{where} is not well-formed") from None
    fault = url_fault(str(parsed))  # what is checked is what will be asked, not what was typed
    if fault is not None:
        raise FetchFailed(fault if base is None else f"redirect: {fault}")
    return parsed


async def _get(target: httpx2.URL, rules: _Rules) -> Fetched | httpx2.URL:
    """The answer of `target`, or where it redirects to."""
    import httpx2

    host = target.raw_host.decode("ascii")
    addresses = await _checked_addresses(host, target.port or _PORTS[target.scheme], rules)
    failed: httpx2.TransportError | None = None
    for address in addresses:
        try:
            return await _get_from(address, target, rules, rules.timeout_seconds / len(addresses))
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            failed = error
    raise failed or FetchFailed(f"{host[:100]} has no address")


async def _checked_addresses(host: str, port: int, rules: _Rules) -> list[str]:
    addresses = await rules.resolve(host, port)
    for address in addresses if not rules.allow_private else ():
        why = address_fault(address)
        if why is not None:
            raise AddressRefused(host, address, why)
    return addresses[:CONNECT_ADDRESSES_MAX]


async def _get_from(
    address: str, target: httpx2.URL, rules: _Rules, connect_seconds: float
) -> Fetched | httpx2.URL:
    """Ask `address` for `target`: the name goes into Host, SNI and the certificate's check only."""
    import httpx2

    request = httpx2.Request(
        "GET",
        target.copy_with(host=address),
        headers={
            "Host": target.netloc.decode("ascii"),
            "User-Agent": "roost-watchlist",
            "Accept": "*/*",
            "Accept-Encoding": "gzip",
            "Connection": "close",
        },
        extensions={
            "sni_hostname": target.raw_host.decode("ascii").rstrip("."),
            "timeout": httpx2.Timeout(rules.timeout_seconds, connect=connect_seconds).as_dict(),
        },
    )
    # The bare transport: no proxies, no cookies, no redirects, and no log line with the URL.
    async with httpx2.AsyncHTTPTransport(verify=_tls_context()) as transport:
        response = await transport.handle_async_request(request)
        try:
            location = response.headers.get("location")
            if response.status_code in _REDIRECTS and location is not None:
                return _parse(location, base=target)
            body, truncated = await _read(response, rules.max_bytes)
        finally:
            await response.aclose()
    content_type = response.headers.get("content-type", "")
    return Fetched(str(target), response.status_code, body, truncated, content_type)


@cache
def _tls_context() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


async def _read(response: httpx2.Response, max_bytes: int) -> tuple[bytes, bool]:
    """The body's first `max_bytes` bytes, and whether there was more.

    The raw bytes are bounded too: a gzip stream can be long and yet inflate to nothing.
    """
    inflate = _inflater(response.headers.get("content-encoding", ""))
    body = bytearray()
    raw_bytes = 0
    async with aclosing(response.aiter_raw()) as chunks:
        async for chunk in chunks:
            room = max_bytes + 1 - len(body)
            body += chunk[:room] if inflate is None else inflate.decompress(chunk, room)
            raw_bytes += len(chunk)
            if len(body) > max_bytes or raw_bytes > max_bytes + _RAW_SLACK_BYTES:
                return bytes(body[:max_bytes]), True
            if inflate is not None and inflate.eof:
                break  # what follows the first gzip member is not part of the body
    if inflate is not None and raw_bytes and not inflate.eof:
        raise FetchFailed("the gzip body ends early")
    return bytes(body), False


def _inflater(encoding: str) -> zlib._Decompress | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        case other:
            raise FetchFailed(f"content encoding {other[:20]!r} was not asked for")


def _charset(content_type: str) -> str:
    named = _CHARSET.search(content_type)
    try:
        charset = codecs.lookup(named[1]).name if named else "utf-8"
    except LookupError:
        return "utf-8"
    return charset if _TABLES.match(charset) else "utf-8"
