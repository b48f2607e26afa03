"""The artifact store port on S3: objects named by the SHA-256 of their content.

An object is written on the condition that it is not there, with its checksum, so S3 itself
verifies what arrives; it is verified again on every read. Large blobs go up in parts, and
never more than a few parts are in memory.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import IO, Any

from botocore.exceptions import ClientError

from roost.errors import ArtifactNotFound, StorageCorrupt, StorageError, StorageUnavailable
from roost.storage.aws.clients import Aws
from roost.storage.aws.faults import code_of, storage_errors
from roost.storage.aws.names import blob_key
from roost.storage.ports import Blob

CHUNK_BYTES = 1 << 18
SPOOL_BYTES = 8 << 20  # of one blob in memory; beyond it a temporary file holds it
MULTIPART_BYTES = 16 << 20  # blobs above it go up in parts
PART_BYTES = 8 << 20  # at least; S3 API reference, "Multipart upload limits": 10,000 parts
PARTS_MAX = 10_000
PARALLEL_PARTS = 4
RENEW_BEFORE_SECONDS = 30 * 86400.0
_STANDS = frozenset({"PreconditionFailed", "412"})
_CONFLICT = frozenset({"ConditionalRequestConflict", "409"})
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_NO_UPLOAD = frozenset({"NoSuchUpload", "404"})
_WRITES_MAX = 3  # of one object that goes away between a write that it refused and a look at it
_EXPIRY_DATE = re.compile(r'expiry-date="([^"]+)"')
_DIGEST = re.compile(r"[0-9a-f]{64}")


class AwsArtifacts:
    """`ports.ArtifactStore`.

    Args:
        find_bucket: finds the bucket's name out where none is set, once it is needed: that
            takes a call to STS, and most commands never come here.
    """

    def __init__(self, aws: Aws, find_bucket: Callable[[], Awaitable[str]] | None = None) -> None:
        self._aws = aws
        self._find_bucket = find_bucket
        self._bucket = aws.names.bucket

    async def put(self, chunks: AsyncIterator[bytes] | Iterable[bytes]) -> Blob:
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            digest = hashlib.sha256()
            async for chunk in _each(chunks):
                digest.update(chunk)
                spool.write(chunk)
            size = spool.tell()
            await self._store(blob_key(digest.hexdigest()), spool, size, digest.digest())
        return Blob(digest.hexdigest(), size)

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        body = (await self._get(digest))["Body"]
        seen = hashlib.sha256()
        held: bytes | None = None  # the last chunk is given once all is verified
        with storage_errors(f"GetObject of {digest}"):
            async with body:
                while chunk := await body.read(CHUNK_BYTES):
                    seen.update(chunk)
                    if held is not None:
                        yield held
                    held = chunk
        if seen.hexdigest() != digest:
            raise StorageCorrupt(f"artifact {digest} has other bytes than were stored")
        if held is not None:
            yield held

    async def read_range(self, digest: str, start: int, length: int) -> bytes:
        """A part of a blob, as it is stored: a part can't be verified against the digest of the whole.

        Args:
            start: of the first byte, from 0.
            length: at most so many bytes, at least 1.

        Raises:
            ArtifactNotFound: there is no such blob.
        """
        answer = await self._get(digest, Range=f"bytes={start}-{start + length - 1}")
        with storage_errors(f"GetObject of {digest}"):
            async with answer["Body"] as body:
                content: bytes = await body.read()
        return content

    async def link(
        self,
        digest: str,
        *,
        seconds: int,
        file_name: str = "",
        content_type: str = "application/octet-stream",
    ) -> str:
        """A presigned link to a blob, for a browser.

        Args:
            seconds: how long it is good, at most a week.
            file_name: under which a browser saves it.

        Raises:
            ArtifactNotFound: that is no digest. Whether there is such a blob is not looked at.
        """
        if not _DIGEST.fullmatch(digest):
            raise ArtifactNotFound(f"no artifact {digest[:80]!r}")
        s3 = await self._s3()
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", file_name)[:200] or digest
        parameters = {
            "Bucket": self._bucket,
            "Key": blob_key(digest),
            "ResponseContentDisposition": f'attachment; filename="{safe}"',
            "ResponseContentType": content_type,
        }
        with storage_errors(f"a link to {digest}"):
            url: str = await s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
        return url

    async def size(self, digest: str) -> int | None:
        if not _DIGEST.fullmatch(digest):
            return None
        s3 = await self._s3()
        what = f"HeadObject of {digest}"
        with storage_errors(what):
            try:
                answer = await self._aws.patience.call(
                    what, lambda: s3.head_object(Bucket=self._bucket, Key=blob_key(digest))
                )
            except ClientError as error:
                if code_of(error) in _MISSING:
                    return None
                raise
        return int(answer["ContentLength"])

    async def bucket(self) -> str:
        """The bucket's name.

        Raises:
            StorageError: none is set, and the account can't be found out.
        """
        if not self._bucket and self._find_bucket is not None:
            self._bucket = await self._find_bucket()
        return self._bucket

    async def _s3(self) -> Any:
        """The client; the bucket is known then."""
        await self.bucket()
        return await self._aws.clients.get("s3")

    async def _get(self, digest: str, **arguments: Any) -> dict[str, Any]:
        """The reply to `GetObject`.

        Raises:
            ArtifactNotFound: there is no such blob.
        """
        if not _DIGEST.fullmatch(digest):
            raise ArtifactNotFound(f"no artifact {digest[:80]!r}")
        s3 = await self._s3()
        what = f"GetObject of {digest}"
        with storage_errors(what):
            try:
                answer: dict[str, Any] = await self._aws.patience.call(
                    what, lambda: s3.get_object(Bucket=self._bucket, Key=blob_key(digest), **arguments)
                )
            except ClientError as error:
                if code_of(error) in _MISSING:
                    raise ArtifactNotFound(f"no artifact {digest!r}") from None
                raise
        return answer

    async def _store(self, key: str, spool: IO[bytes], size: int, checksum: bytes) -> None:
        """Have the object stand: written now, or by somebody before.

        Raises:
            StorageError: it failed.
        """
        for _ in range(_WRITES_MAX):
            spool.seek(0)
            if size <= MULTIPART_BYTES:
                is_written = await self._put_whole(key, spool.read(), checksum)
            else:
                is_written = await self._put_parts(key, spool, size)
            if is_written or await self._stands(key):
                return
        raise StorageUnavailable(f"{key} was there whenever it was to be written, and gone at the next look")

    async def _put_whole(self, key: str, content: bytes, checksum: bytes) -> bool:
        """Write an object with one call; False: there is one."""
        s3 = await self._s3()
        what = f"PutObject of {key}"

        async def write() -> bool:
            try:
                await s3.put_object(
                    Bucket=self._bucket,
                    Key=key,
                    Body=content,
                    IfNoneMatch="*",
                    ChecksumSHA256=base64.b64encode(checksum).decode(),
                )
            except ClientError as error:
                if code_of(error) in _CONFLICT:  # another write of the same bytes is under way
                    raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, what) from error
                if code_of(error) not in _STANDS:
                    raise
                return False
            return True

        with storage_errors(what):
            return await self._aws.patience.call(what, write)

    async def _stands(self, key: str) -> bool:
        """Whether there is an object, which has a new life then if the bucket's life cycle would soon end it.

        Else what is put today might be gone tomorrow. S3 says when it would be: in the reply
        to HeadObject ("x-amz-expiration").
        """
        s3 = await self._s3()
        what = f"HeadObject of {key}"
        with storage_errors(what):
            try:
                head = await self._aws.patience.call(
                    what, lambda: s3.head_object(Bucket=self._bucket, Key=key)
                )
                if self._ends_soon(head):
                    await self._renew(key)
            except ClientError as error:
                if code_of(error) not in _MISSING:
                    raise
                return False
        return True

    def _ends_soon(self, head: dict[str, Any]) -> bool:
        found = _EXPIRY_DATE.search(head.get("Expiration", ""))
        if found is None:
            return False
        left = parsedate_to_datetime(found[1]).timestamp() - self._aws.clock.now()
        return left < RENEW_BEFORE_SECONDS

    async def _renew(self, key: str) -> None:
        s3 = await self._s3()
        await self._aws.patience.call(
            f"CopyObject of {key}",
            lambda: s3.copy_object(
                Bucket=self._bucket,
                Key=key,
                CopySource={"Bucket": self._bucket, "Key": key},
                MetadataDirective="REPLACE",  # S3 copies an object onto itself only if something changes
            ),
        )

    async def _put_parts(self, key: str, spool: IO[bytes], size: int) -> bool:
        """Write an object in parts; False: there is one, or only a look can tell."""
        s3 = await self._s3()
        what = f"the multipart upload of {key}"
        upload = {"Bucket": self._bucket, "Key": key}
        with storage_errors(what):
            begun = await self._aws.patience.call(
                what, lambda: s3.create_multipart_upload(**upload, ChecksumAlgorithm="SHA256")
            )
        upload["UploadId"] = begun["UploadId"]
        is_done = False
        try:
            parts = await self._upload_parts(upload, spool, max(PART_BYTES, -(-size // PARTS_MAX)))
            is_done = await self._complete(what, upload, parts)
        finally:
            if not is_done:
                await self._abort(upload)
        return is_done

    async def _complete(self, what: str, upload: dict[str, str], parts: list[dict[str, Any]]) -> bool:
        """End an upload; False: there is an object, or the upload is gone, maybe since it was completed.

        One that met another write of the key is gone, too (S3 API reference, "CompleteMultipartUpload":
        "On a 409 failure you should re-initiate the multipart upload").
        """
        s3 = await self._s3()
        with storage_errors(what):
            try:
                await self._aws.patience.call(
                    what,
                    lambda: s3.complete_multipart_upload(
                        **upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
                    ),
                )
            except ClientError as error:
                if code_of(error) not in _STANDS | _NO_UPLOAD:
                    raise
                return False
        return True

    async def _upload_parts(
        self, upload: dict[str, str], spool: IO[bytes], part_bytes: int
    ) -> list[dict[str, Any]]:
        """Upload a few parts at a time, each with its checksum; what completing the upload asks of them."""
        s3 = await self._s3()

        async def one(number: int, content: bytes) -> dict[str, Any]:
            what = f"part {number} of {upload['Key']}"
            checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
            with storage_errors(what):
                answer = await self._aws.patience.call(
                    what,
                    lambda: s3.upload_part(
                        **upload, PartNumber=number, Body=content, ChecksumSHA256=checksum
                    ),
                )
            return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

        done: list[dict[str, Any]] = []
        number = 1
        while contents := [content for _ in range(PARALLEL_PARTS) if (content := spool.read(part_bytes))]:
            uploads = [one(number + n, content) for n, content in enumerate(contents)]
            # All of them to their ends: a part that comes after the upload is aborted stays there.
            for outcome in await asyncio.gather(*uploads, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                done.append(outcome)
            number += len(contents)
        return done

    async def _abort(self, upload: dict[str, str]) -> None:
        """Leave no parts behind. If that fails, the bucket's life cycle takes them after a day."""
        s3 = await self._s3()
        with suppress(StorageError), storage_errors(f"AbortMultipartUpload of {upload['Key']}"):
            await s3.abort_multipart_upload(**upload)


async def _each(chunks: AsyncIterator[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterator):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
