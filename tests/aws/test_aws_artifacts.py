"""What the contract suite does not show of artifacts on S3: conditions, checksums, parts and links."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import tracemalloc
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from botocore.exceptions import EndpointConnectionError

from roost.errors import ArtifactNotFound, StorageCorrupt, StorageDenied, StorageError
from roost.storage.aws import artifacts
from roost.storage.aws.artifacts import AwsArtifacts
from roost.storage.aws.clients import Aws
from roost.testing.standins import StandIn
from tests.aws.wire import Answer, Event, Fail, First, LoseReply, Stack, Wire, new_stack

pytestmark = pytest.mark.slow
MISSING = "0" * 64


@dataclass
class Opened:
    """The store, its calls, and the client behind it."""

    aws: Aws
    store: AwsArtifacts
    wire: Wire
    s3: Any

    async def keys(self) -> list[str]:
        found = await self.s3.list_objects_v2(Bucket=self.aws.names.bucket)
        return [item["Key"] for item in found.get("Contents", [])]

    async def read(self, digest: str) -> bytes:
        return b"".join([chunk async for chunk in self.store.read(digest)])


@pytest_asyncio.fixture(params=["ministack", "moto"])
async def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    standin: StandIn = request.getfixturevalue(request.param)
    stack: Stack = await new_stack(standin, monkeypatch)
    aws, _ = await stack.open()
    s3 = await aws.clients.get("s3")
    yield Opened(aws, AwsArtifacts(aws), Wire(s3, "s3"), s3)
    await stack.close()


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_an_object_is_named_by_its_content_and_written_on_a_condition(opened: Opened) -> None:
    blob = await opened.store.put([b"hel", b"lo"])
    assert await opened.keys() == [f"blobs/{blob.digest[:2]}/{blob.digest}"]
    [(name, arguments)] = opened.wire.calls[:1]
    assert name == "PutObject"
    assert arguments["IfNoneMatch"] == "*"
    assert base64.b64decode(arguments["ChecksumSHA256"]).hex() == blob.digest == digest_of(b"hello")


async def test_the_same_bytes_are_one_object(opened: Opened) -> None:
    first = await opened.store.put([b"hello"])
    assert await opened.store.put([b"he", b"llo"]) == first
    assert await asyncio.gather(*(opened.store.put([b"hello"]) for _ in range(5))) == [first] * 5
    assert len(await opened.keys()) == 1


async def test_a_lost_reply_and_a_conflict_are_settled(opened: Opened) -> None:
    opened.wire.script(
        "PutObject", LoseReply(), Fail("ConditionalRequestConflict", 409), Fail("SlowDown", 503)
    )
    blob = await opened.store.put([b"hello"])
    assert await opened.read(blob.digest) == b"hello"


async def test_what_other_bytes_stand_under_a_name_are_found_out(opened: Opened) -> None:
    blob = await opened.store.put([b"hello"])
    [key] = await opened.keys()
    await opened.s3.put_object(Bucket=opened.aws.names.bucket, Key=key, Body=b"jello")
    with pytest.raises(StorageCorrupt):
        await opened.read(blob.digest)


async def test_what_is_not_there_or_no_digest_is_not_found(opened: Opened) -> None:
    for digest in (MISSING, "x", "../" + "0" * 61, "A" * 64, ""):
        with pytest.raises(ArtifactNotFound):
            await opened.read(digest)
        assert await opened.store.size(digest) is None


async def test_a_missing_permission_is_not_a_missing_blob(opened: Opened) -> None:
    """Without s3:ListBucket S3 answers 403 for a key that is not there: that is said, not guessed."""
    opened.wire.script("GetObject", Fail("AccessDenied", 403))
    with pytest.raises(StorageError, match="AccessDenied"):
        await opened.read(MISSING)
    opened.wire.script("HeadObject", Fail("403", 403))
    with pytest.raises(StorageError) as caught:
        await opened.store.size(MISSING)
    assert "permission" in caught.value.hint


# --- large blobs -------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MULTIPART_BYTES", 6 << 20)
    monkeypatch.setattr(artifacts, "PART_BYTES", 5 << 20)  # the least that S3 takes


def megabytes(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number % 251]) * (1 << 20)


@pytest.mark.usefixtures("small_parts")
async def test_a_large_blob_goes_up_in_parts(opened: Opened) -> None:
    blob = await opened.store.put(megabytes(12))
    assert blob.size_bytes == 12 << 20
    content = await opened.read(blob.digest)
    assert digest_of(content) == blob.digest
    calls = opened.wire.taken()
    assert (calls["UploadPart"], calls["CompleteMultipartUpload"]) == (3, 1)
    assert await opened.store.put(megabytes(12)) == blob
    assert await uploads(opened) == []


@pytest.mark.usefixtures("small_parts")
async def test_a_part_that_fails_leaves_nothing_behind(opened: Opened) -> None:
    opened.wire.script("UploadPart", Fail("InternalError", 500), Fail("AccessDenied", 403))
    with pytest.raises(StorageError):
        await opened.store.put(megabytes(12))
    assert await opened.keys() == []
    assert await uploads(opened) == []


@pytest.mark.usefixtures("small_parts")
async def test_an_upload_that_is_cancelled_leaves_nothing_behind(opened: Opened) -> None:
    begun = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in megabytes(12):
            yield chunk
        begun.set()

    putting = asyncio.create_task(opened.store.put(chunks()))
    await begun.wait()
    putting.cancel()  # its last parts have no answer yet
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await opened.keys() == []
    assert await uploads(opened) == []


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("ends", "begun"),
    [
        ([LoseReply()], 1),
        ([LoseReply(), Fail("NoSuchUpload", 404)], 1),
        ([Fail("ConditionalRequestConflict", 409), Fail("NoSuchUpload", 404)], 2),
    ],
    ids=["lost", "gone", "conflict"],
)
async def test_an_upload_that_is_gone_at_its_end_is_done_or_is_made_again(
    opened: Opened, ends: list[Event], begun: int
) -> None:
    """A completed upload is gone, and so is one that met another writer of the key: only a look tells.

    S3 API reference, "CompleteMultipartUpload", `If-None-Match`: "On a 409 failure you should
    re-initiate the multipart upload with CreateMultipartUpload and re-upload each part."
    """
    opened.wire.script("CompleteMultipartUpload", *ends)
    blob = await opened.store.put(megabytes(7))
    assert digest_of(await opened.read(blob.digest)) == blob.digest
    assert await uploads(opened) == []
    assert opened.wire.taken()["CreateMultipartUpload"] == begun


@pytest.mark.usefixtures("small_parts")
async def test_an_upload_that_is_done_is_not_aborted(opened: Opened) -> None:
    await opened.store.put(megabytes(7))
    assert "AbortMultipartUpload" not in opened.wire.taken()


@pytest.mark.usefixtures("small_parts")
async def test_an_abort_that_fails_does_not_hide_why_the_upload_did(opened: Opened) -> None:
    async def away() -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1")

    opened.wire.script("UploadPart", Fail("AccessDenied", 403))
    opened.wire.script("AbortMultipartUpload", First(away))
    with pytest.raises(StorageDenied):
        await opened.store.put(megabytes(7))


async def test_an_object_that_went_away_meanwhile_is_asked_for_again(opened: Opened) -> None:
    """It stood when it was to be written, and its life cycle ended before that was looked at."""
    opened.wire.script("PutObject", Fail("PreconditionFailed", 412))
    blob = await opened.store.put([b"hello"])
    assert await opened.read(blob.digest) == b"hello"


@pytest.mark.usefixtures("small_parts")
async def test_memory_does_not_grow_with_the_blob(opened: Opened) -> None:
    await opened.store.put(megabytes(1))
    opened.wire.calls = deque(maxlen=0)  # they hold the parts
    tracemalloc.start()
    try:
        blob = await opened.store.put(megabytes(64))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        size = 0
        async for chunk in opened.store.read(blob.digest):
            size += len(chunk)
        _, reading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 64 << 20
    assert peak < 45 << 20  # a few parts, each some copies in the SDK
    assert reading < 10 << 20


async def uploads(opened: Opened) -> list[str]:
    found = await opened.s3.list_multipart_uploads(Bucket=opened.aws.names.bucket)
    return [upload["Key"] for upload in found.get("Uploads", [])]


# --- for the console ---------------------------------------------------------


async def test_a_range_is_read_alone(opened: Opened) -> None:
    blob = await opened.store.put([b"0123456789"])
    assert await opened.store.read_range(blob.digest, 2, 3) == b"234"
    assert await opened.store.read_range(blob.digest, 8, 99) == b"89"
    with pytest.raises(ArtifactNotFound):
        await opened.store.read_range(MISSING, 0, 1)


async def test_a_link_gives_the_bytes_to_a_browser(opened: Opened) -> None:
    blob = await opened.store.put([b"# report"])
    link = await opened.store.link(
        blob.digest, seconds=60, file_name='re"po\r\nrt.md', content_type="text/markdown"
    )
    answer = httpx2.get(link)
    assert answer.content == b"# report"
    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.headers["content-disposition"] == 'attachment; filename="re_po__rt.md"'
    with pytest.raises(ArtifactNotFound):
        await opened.store.link("../secret", seconds=60)


# --- life cycle --------------------------------------------------------------


async def test_an_object_near_its_end_is_renewed(opened: Opened) -> None:
    blob = await opened.store.put([b"hello"])
    for expiration, copies in (
        ('expiry-date="Fri, 23 Dec 2011 00:00:00 GMT", rule-id="tidy"', 1),
        ('expiry-date="Fri, 23 Dec 2190 00:00:00 GMT", rule-id="tidy"', 0),
        ("", 0),
    ):
        opened.wire.taken()
        opened.wire.script("HeadObject", Answer({"ContentLength": 5, "Expiration": expiration}))
        assert await opened.store.put([b"hello"]) == blob
        assert opened.wire.taken().get("CopyObject", 0) == copies
    assert await opened.read(blob.digest) == b"hello"
