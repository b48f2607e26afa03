"""`fetch` asks a real server on 127.0.0.1; names are given to it by the test, not by DNS."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from roost.engines import fetch as module
from roost.engines.fetch import AddressRefused, Fetched, FetchFailed, address_fault, fetch, url_fault

HERE = "127.0.0.1"
Page = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


class Site:
    """A server whose pages are the bytes to send, or a function that sends them."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.heads: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.port = 0

    def url(self, path: str = "/", host: str = HERE, scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        with suppress(OSError, asyncio.IncompleteReadError):  # the client may leave at any time
            try:
                await self._answer(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        page = self.pages[head.split(" ")[1]]
        if isinstance(page, bytes):
            writer.write(page)
            await writer.drain()
        else:
            await page(writer)

    def host_headers(self) -> list[str]:
        return [
            line[6:]
            for head in self.heads
            for line in head.split("\r\n")
            if line.lower().startswith("host: ")
        ]


@asynccontextmanager
async def _site(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.serve, HERE, 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    async with server:
        yield site
    for task in site.tasks:
        task.cancel()
    await asyncio.gather(*site.tasks, return_exceptions=True)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with _site() as site:
        yield site


def answer(body: bytes = b"", status: int = 200, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(to: str, status: int = 302) -> bytes:
    return answer(b"moved", status, Location=to)


class Names:
    """A resolver: names to addresses; it counts what it was asked."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.addresses.get(host.partition(".")[0], [host])


async def get(url: str, **changes: Any) -> Fetched:
    rules: dict[str, Any] = {"allow_private": True, "timeout_seconds": 5.0, "max_bytes": 10_000}
    return await fetch(url, **{**rules, **changes})


# --- answers


async def test_an_answer_has_status_body_and_url(site: Site) -> None:
    site.pages["/a?b=c"] = answer(b"hello", 404, Content_Type="text/plain")
    found = await get(site.url("/a?b=c"))
    assert found == Fetched(site.url("/a?b=c"), 404, b"hello", False, "text/plain")


async def test_a_gzip_body_is_decompressed(site: Site) -> None:
    site.pages["/"] = answer(gzip.compress(b"hello"), Content_Encoding="gzip")
    assert (await get(site.url())).body == b"hello"


async def test_an_empty_answer_marked_as_gzip_is_empty(site: Site) -> None:
    site.pages["/"] = answer(status=200, Content_Encoding="gzip")
    assert (await get(site.url())).body == b""


async def test_proxies_of_the_environment_are_ignored(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    site.pages["/"] = answer(b"direct")
    assert (await get(site.url())).body == b"direct"


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/html", "hé".encode(), "hé"),
        ("text/html; charset=latin-1", b"h\xe9", "hé"),
        ('text/html; charset="UTF-16"', "hé".encode("utf-16"), "hé"),
        ("text/html; charset=nonsense", b"h\xe9", "h\ufffd"),
        ("text/html; charset=punycode", b"abc-", "abc-"),
        ("text/html; charset=base64", b"abc", "abc"),
        ("", b"abc", "abc"),
    ],
)
def test_text_is_decoded_as_the_content_type_says(content_type: str, body: bytes, text: str) -> None:
    assert Fetched("", 200, body, False, content_type).text == text


# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_three_redirects_are_followed(site: Site, status: int) -> None:
    site.pages["/0"] = redirect("/1", status)
    site.pages["/1"] = redirect(site.url("/2"), status)
    site.pages["/2"] = redirect(f"//{HERE}:{site.port}/3", status)
    site.pages["/3"] = answer(b"here")
    found = await get(site.url("/0"))
    assert (found.url, found.body) == (site.url("/3"), b"here")


async def test_a_fourth_redirect_is_refused(site: Site) -> None:
    site.pages["/"] = redirect("/")
    with pytest.raises(FetchFailed, match="more than 3 redirects"):
        await get(site.url())
    assert len(site.heads) == 4


async def test_a_redirect_without_a_target_is_an_answer(site: Site) -> None:
    site.pages["/"] = answer(b"lost", 302)
    assert (await get(site.url())).status == 302


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://x.test/", "http://u:p@x.test/", "http://[::1/", "http://", "//x:99999/"],
)
async def test_a_redirect_to_what_may_not_be_fetched_is_refused(site: Site, target: str) -> None:
    site.pages["/"] = redirect(target)
    with pytest.raises(FetchFailed, match="redirect"):
        await get(site.url())


async def test_a_redirect_to_a_private_address_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first address is taken for public here, so that a local server can redirect."""
    judge = address_fault
    monkeypatch.setattr(module, "address_fault", lambda a: None if a == HERE else judge(a))
    site.pages["/"] = redirect("http://inside.test/secret")
    names = Names(outside=[HERE], inside=["10.0.0.5"])
    with pytest.raises(AddressRefused, match=r"inside\.test has the address 10\.0\.0\.5"):
        await get(site.url(host="outside.test"), allow_private=False, resolve=names)
    assert names.asked == ["outside.test", "inside.test"]


# --- addresses and names

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.8.8.8",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "nonsense",
    "",
]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert address_fault(address) is not None


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "93.184.216.34",
        "2606:4700:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "2002:101:101::1",
    ],
)
def test_a_public_address_is_taken(address: str) -> None:
    assert address_fault(address) is None


@pytest.mark.parametrize(
    "host",
    [
        HERE,
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
    ],
)
async def test_localhost_is_refused_however_it_is_written(site: Site, host: str) -> None:
    with pytest.raises((AddressRefused, FetchFailed)):
        await get(site.url(host=host), allow_private=False)
    assert site.heads == []


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    names = Names(mixed=["1.1.1.1", "1.0.0.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "192.168.0.1"])
    with pytest.raises(AddressRefused) as caught:
        await get("http://mixed.test/", allow_private=False, resolve=names)
    assert (caught.value.host, caught.value.address) == ("mixed.test", "192.168.0.1")


async def test_the_checked_address_is_connected_to_under_the_name(site: Site) -> None:
    """A name that changes after the check gains nothing: it is not looked up again."""
    site.pages["/"] = answer()
    names = Names(rebind=[HERE])
    await get(site.url(host="rebind.test"), resolve=names)
    assert names.asked == ["rebind.test"]
    assert site.host_headers() == [f"rebind.test:{site.port}"]


async def test_the_next_address_is_tried_when_one_does_not_answer(site: Site) -> None:
    site.pages["/"] = answer(b"second")
    names = Names(two=["127.0.0.2", HERE])
    assert (await get(site.url(host="two.test"), resolve=names)).body == b"second"


async def test_a_name_without_addresses_fails() -> None:
    with pytest.raises(FetchFailed, match=r"none\.test has no address"):
        await get("http://none.test/", resolve=Names(none=[]))


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "."])
async def test_a_name_that_can_not_be_looked_up_fails(host: str) -> None:
    with pytest.raises(FetchFailed):
        await get(f"http://{host}/")


# --- URLs


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("ftp://x.test/", "scheme 'ftp' is refused"),
        ("file:///etc/passwd", "scheme 'file' is refused"),
        ("//x.test/", "scheme '' is refused"),
        ("x.test", "scheme '' is refused"),
        ("http://user:pass@x.test/", "URL has credentials"),
        ("http://user@x.test/", "URL has credentials"),
        ("http://@x.test/", "URL has credentials"),
        ("http://good.test\\@evil.test/", "URL has credentials"),
        ("http:///path", "URL has no host"),
        ("http://:80/", "URL has no host"),
        ("http://[::1", "URL is not well-formed"),
        ("http://x.test:99999/", "URL is not well-formed"),
        ("http://x.test/\r\nX: y", "URL has blanks"),
        ("http://x.test/a b", "URL has blanks"),
        ("http://x.test/" + "a" * 2048, "URL has more than 2048"),
    ],
)
async def test_a_wrong_url_is_refused_before_anybody_is_asked(url: str, fault: str) -> None:
    names = Names()
    assert (url_fault(url) or "").startswith(fault)
    with pytest.raises(FetchFailed):
        await get(url, resolve=names)
    assert names.asked == []


@pytest.mark.parametrize(
    "url", ["http://x.test", "HTTPS://X.test:8443/a?b#c", "http://[::1]/", "http://ö.test/"]
)
def test_a_well_formed_url_has_no_fault(url: str) -> None:
    assert url_fault(url) is None


# --- bounds


async def test_a_body_of_exactly_the_limit_is_whole(site: Site) -> None:
    site.pages["/"] = answer(b"x" * 10_000)
    found = await get(site.url())
    assert (len(found.body), found.truncated) == (10_000, False)


async def test_a_longer_body_is_cut(site: Site) -> None:
    site.pages["/"] = answer(b"x" * 500_000)
    found = await get(site.url())
    assert (found.body, found.truncated) == (b"x" * 10_000, True)


async def test_a_gzip_bomb_is_cut_without_being_inflated(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    produced: list[int] = []
    make = zlib.decompressobj

    class Counting:
        def __init__(self, **options: Any) -> None:
            self._real = make(**options)

        def decompress(self, chunk: bytes, room: int) -> bytes:
            out = self._real.decompress(chunk, room)
            produced.append(len(out))
            return out

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    site.pages["/"] = answer(bomb, Content_Encoding="gzip")
    found = await get(site.url())
    assert (found.body, found.truncated) == (bytes(10_000), True)
    assert sum(produced) == 10_001


async def test_a_gzip_stream_that_inflates_to_nothing_is_cut(site: Site) -> None:
    """A header field of endless length: raw bytes without a body."""
    endless_name = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 500_000
    site.pages["/"] = answer(endless_name, Content_Encoding="gzip")
    assert (await get(site.url())).truncated


@pytest.mark.parametrize(
    ("encoding", "body", "fault"),
    [
        ("br", b"x", "content encoding 'br' was not asked for"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x")), "was not asked for"),
        ("gzip", b"no gzip at all", "gzip body is damaged"),
        ("gzip", gzip.compress(b"x" * 1000)[:-9], "gzip body ends early"),
    ],
    ids=["another", "twice", "damaged", "cut"],
)
async def test_a_body_that_can_not_be_read_fails(site: Site, encoding: str, body: bytes, fault: str) -> None:
    site.pages["/"] = answer(body, Content_Encoding=encoding)
    with pytest.raises(FetchFailed, match=fault):
        await get(site.url())


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"]
)
async def test_an_answer_that_drips_ends_at_the_deadline(site: Site, head: bytes) -> None:
    """Each byte comes in time; all of them together don't."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    site.pages["/"] = drip
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(FetchFailed, match=r"no complete answer within 0\.2 s"):
        await get(site.url(), timeout_seconds=0.2)
    assert loop.time() - started < 20  # it would drip for ever


async def test_a_lookup_that_hangs_ends_at_the_deadline() -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(FetchFailed, match="no complete answer"):
        await get("http://x.test/", timeout_seconds=0.01, resolve=hang)


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (b"", "broke off"),
        (b"SSH-2.0-secret\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nsecret", "broke off"),
    ],
)
async def test_a_broken_answer_fails_without_quoting_it(site: Site, page: bytes, fault: str) -> None:
    site.pages["/?token=secret"] = page
    with pytest.raises(FetchFailed, match=fault) as caught:
        await get(site.url("/?token=secret"))
    assert "secret" not in str(caught.value)


async def test_a_closed_port_fails() -> None:
    with pytest.raises(FetchFailed, match="cannot connect"):
        await get("http://127.0.0.1:1/?token=secret")


async def test_cancelling_is_not_swallowed(site: Site) -> None:
    async def hang(writer: asyncio.StreamWriter) -> None:
        waiting.set()
        await asyncio.wait_for(gone.wait(), 5)

    waiting, gone = asyncio.Event(), asyncio.Event()
    site.pages["/"] = hang
    task = asyncio.create_task(get(site.url()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gone.set()


# --- TLS

# A certificate for watch.test, made for this test and used nowhere else; valid until 2126:
# openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500
#   -subj /CN=watch.test -addext subjectAltName=DNS:watch.test
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmDCCAT6gAwIBAgIUZg5ILQoP59mAkEvlJjClopBUc+YwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKd2F0Y2gudGVzdDAgFw0yNjExMjMwMzU1MDBaGA8yMTI2MTAz
MDAzNTUwMFowFTETMBEGA1UEAwwKd2F0Y2gudGVzdDBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABFnjs9KxDxC5Rc6i/yataB0UHeaahHmRq4Ar3iZdm44OVocyn1Iu
qn1PDJsynmjrAHjYLibOkLt7PjH/5PwfI5ijajBoMB0GA1UdDgQWBBSs59pIVHQ7
0r/DZIvfwWZ1fsK6KzAfBgNVHSMEGDAWgBSs59pIVHQ70r/DZIvfwWZ1fsK6KzAP
BgNVHRMBAf8EBTADAQH/MBUGA1UdEQQOMAyCCndhdGNoLnRlc3QwCgYIKoZIzj0E
AwIDSAAwRQIgcK2r+4aTzCNuTa7jtIA4Rm6aOYufI9ynUylb0wWNrbsCIQCiY5EC
LJ84v2x7HU/P1pu+i8QWKSQOG4kWpYdnTBV75Q==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgP+9EN7V2X4WBcv80
2dNGFXhfnhQ5XKedgtuW5iot/WehRANCAARZ47PSsQ8QuUXOov8mrWgdFB3mmoR5
kauAK94mXZuODlaHMp9SLqp9TwybMp5o6wB42C4mzpC7ez4x/+T8HyOY
-----END PRIVATE KEY-----
"""


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    file = tmp_path / "watch.test.pem"
    file.write_text(KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_tls_asks_for_the_name_and_checks_it(
    server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes to an address; SNI and the certificate's check use the name."""
    asked: list[str | None] = []
    server_tls.sni_callback = lambda _socket, name, _context: asked.append(name)
    trusting = ssl.create_default_context(cadata=CERTIFICATE)
    monkeypatch.setattr(module, "_tls_context", lambda: trusting)
    async with _site(server_tls) as site:
        site.pages["/"] = answer(b"safe")
        names = Names(watch=[HERE], other=[HERE])
        found = await get(site.url(host="watch.test", scheme="https"), resolve=names)
        assert found.body == b"safe"
        with pytest.raises(FetchFailed, match=r"[Hh]ostname mismatch"):
            await get(site.url(host="other.test", scheme="https"), resolve=names)
    assert asked == ["watch.test", "other.test"]


async def test_an_unknown_certificate_is_refused(server_tls: ssl.SSLContext) -> None:
    async with _site(server_tls) as site:
        with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await get(site.url(host="watch.test", scheme="https"), resolve=Names(watch=[HERE]))


# --- cost


@pytest.mark.slow
def test_importing_the_engine_does_not_import_the_http_client() -> None:
    code = "import roost.engines.watchlist, sys; sys.exit('httpx2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
