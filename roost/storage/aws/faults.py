"""What the AWS SDK raises, as errors of Roost that say what to do; and patience with what passes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from roost.clock import Clock, Ids
from roost.errors import StorageDenied, StorageError, StorageMissing, StorageUnavailable

T = TypeVar("T")

SDK_ATTEMPTS = 3  # then `Patience` and the core go on, with longer pauses
TRIES = 8  # of one call that met a passing fault, the SDK's own tries not counted
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_FIRST_ERROR_STATUS, _FIRST_SERVER_STATUS = 300, 500

# DynamoDB Developer Guide, "Error handling"; SQS and S3 API references, "Common errors"
_THROTTLES = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "ThrottlingError",
        "ThrottledException",
        "TooManyRequestsException",
        "LimitExceededException",
        "OverLimit",
        "KmsThrottled",
    }
)
_CONFLICTS = frozenset(
    {"TransactionConflictException", "TransactionInProgressException", "ConditionalRequestConflict"}
)
# Of some codes of SQS, as its older protocol spelled them; and of what it and S3 heard from KMS.
_PREFIXES = ("AWS.SimpleQueueService.", "KMS.")
_PASSING = frozenset(
    {
        "InternalServerError",
        "InternalFailure",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "RequestTimeoutException",
        "500",
        "502",
        "503",
        "504",
    }
)
DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation", "KMS.AccessDeniedException"}
)
# IAM User Guide, "Troubleshoot AWS Signature Version 4": the same code as for a wrong key, but in its text
_SKEWS = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})
_SKEW_TEXTS = ("Signature expired", "Signature not yet current")
_BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
    }
)
_MISSING = frozenset(
    {
        "ResourceNotFoundException",
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "NoSuchBucket",
    }
)


_NO_KEYS_NOW = (CredentialRetrievalError, MetadataRetrievalError)  # who gives them out did not answer
_LOST_REPLIES = (
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
    UnicodeDecodeError,  # what a damaged reply becomes in botocore
    aiohttp.ClientError,
    TimeoutError,
    OSError,
)


def code_of(error: ClientError) -> str:
    """The error's code, such as `ConditionalCheckFailedException`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def passes(code: str) -> bool:
    """Whether what has this code may succeed in a moment, whoever is said to be at fault."""
    return _bare(code) in _THROTTLES | _CONFLICTS | _PASSING


def _bare(code: str) -> str:
    for prefix in _PREFIXES:
        code = code.removeprefix(prefix)
    return code


def reasons_of(error: ClientError) -> list[dict[str, Any]]:
    """Why a transaction was cancelled: one dict an action, `Code` "None" where it is not to blame."""
    return list(error.response.get("CancellationReasons", []))


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn the SDK's errors into `StorageError`s.

    Args:
        what: the call and what it is about, such as `PutItem on roost-journal`; no secrets.

    Raises:
        StorageUnavailable: the fault may pass; the same call may succeed later.
        StorageMissing: there is no such table, queue or bucket.
        StorageDenied: the policy does not allow it.
        StorageError: it won't pass by itself; the hint says what to do.
    """
    try:
        yield
    except ClientError as error:
        raise _explain(error, what) from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound, NoRegionError) as error:
        raise StorageError(
            f"{what}: {error}", hint="Set AWS_PROFILE and AWS_REGION, or run where a role is attached."
        ) from error
    except _LOST_REPLIES as error:
        raise StorageUnavailable(f"{what}: {type(error).__name__}: {error}") from error
    except _NO_KEYS_NOW as error:
        raise StorageUnavailable(
            f"{what}: {error}", hint="Where credentials come from did not give them."
        ) from error
    except BotoCoreError as error:
        raise StorageError(f"{what}: {error}") from error


def _explain(error: ClientError, what: str) -> StorageError:
    code = code_of(error)
    text = f"{what}: {code}: {error.response.get('Error', {}).get('Message', '')}"
    if is_skewed(error):
        return StorageUnavailable(text, hint="Set this machine's clock, for example with chrony.")
    if is_passing(error):
        return StorageUnavailable(text)
    if code in DENIED:
        return StorageDenied(
            text, hint="The role lacks a permission; `roost aws doctor` shows which are needed."
        )
    if code in _BAD_CREDENTIALS:
        return StorageError(text, hint="The credentials are wrong or have expired; get new ones.")
    if _bare(code) == "QueueDeletedRecently":
        return StorageError(text, hint="SQS keeps the name of a deleted queue for a minute; try again then.")
    if code in _MISSING:
        return StorageMissing(
            text,
            hint="Is it the right stack, account and region? `roost aws describe` shows what is there, "
            "`roost aws create` makes what is missing.",
        )
    return StorageError(text)


def is_passing(error: ClientError) -> bool:
    """Whether the same call may succeed in a moment."""
    code = code_of(error)
    if code == "TransactionCanceledException":
        codes = {reason.get("Code", "None") for reason in reasons_of(error)} - {"None"}
        return bool(codes) and codes <= {
            "TransactionConflict",
            "ThrottlingError",
            "ProvisionedThroughputExceeded",
        }
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return passes(code) or status >= _FIRST_SERVER_STATUS or is_skewed(error)


def is_skewed(error: ClientError) -> bool:
    """Whether a request came too long after it was signed, or before.

    The clock is wrong; or the process stood still between the two, as a function that was frozen
    does (aws/aws-sdk-js-v3, issue 7605), and then the next try, which is signed anew, succeeds.
    """
    text = str(error.response.get("Error", {}).get("Message", ""))
    return code_of(error) in _SKEWS or (code_of(error) in _BAD_CREDENTIALS and text.startswith(_SKEW_TEXTS))


class Met:
    """Passing faults that were met: each attempt that failed and is made again, and what else should be seen.

    Attributes:
        counts: how often, by the error's code.
        told: hears of each, too.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.told: Callable[[str], None] | None = None

    def __call__(self, fault: str) -> None:
        self.counts[fault] += 1
        if self.told is not None:
            self.told(fault)

    def watch(self, client: Any) -> None:
        """See the attempts that the SDK makes again by itself, which no caller hears of.

        Its last one is its caller's, who meets it in turn.
        """
        client.meta.events.register_last("needs-retry", self._retried)

    def _retried(self, response: Any, caught_exception: Any, attempts: int, **_: Any) -> None:
        if attempts >= SDK_ATTEMPTS:
            return
        if caught_exception is not None:
            self(type(caught_exception).__name__)
        elif response is not None and response[0].status_code >= _FIRST_ERROR_STATUS:
            code = _bare(str(response[1].get("Error", {}).get("Code", "")))
            if code in _THROTTLES or response[0].status_code >= _FIRST_SERVER_STATUS:
                self(code)


class Patience:
    """Makes a call again while its fault may pass: bounded, with growing, jittered pauses.

    Only for calls that may be made twice. On top of the SDK's own retries, which know
    nothing of cancelled transactions.

    Attributes:
        met: is told of each try that failed and may pass.
    """

    def __init__(self, clock: Clock, ids: Ids, met: Met | None = None) -> None:
        self._clock = clock
        self._ids = ids
        self.met = met or Met()

    async def call(
        self, what: str, call: Callable[[], Awaitable[T]], *, within_seconds: float | None = None
    ) -> T:
        """Call until it succeeds, fails for good, or `TRIES` are used up.

        Args:
            within_seconds: after which one try is given up and made again; None: when the client
                gives it up, which waits as long as the longest of its calls may take.

        Raises:
            ClientError: the caller is to judge it (a condition that does not hold, …).
            StorageUnavailable: it still failed at the last try.
            StorageError: no credentials, no region, a call that can't be made.
        """
        pause = _FIRST_PAUSE_SECONDS
        for left in reversed(range(TRIES)):
            try:
                async with asyncio.timeout(within_seconds):
                    return await call()
            except ClientError as error:
                if not is_passing(error):
                    raise
                self.met(code_of(error))
                if left == 0:
                    raise _explain(error, what) from error
            except (*_LOST_REPLIES, *_NO_KEYS_NOW) as error:
                self.met(type(error).__name__)
                if left == 0:
                    with storage_errors(what):
                        raise
            except BotoCoreError:
                with storage_errors(what):
                    raise
            await self._clock.sleep(self._ids.uniform(pause / 2, pause))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        raise AssertionError("unreachable")
