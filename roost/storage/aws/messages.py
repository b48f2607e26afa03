"""What a message of a lane's queue says: ids only, as JSON with a version.

Whoever may send to a queue may send anything, so a body is read as strictly as a payload: one
that can't be read must cost the delivery of no other.
"""

from __future__ import annotations

import json
from math import ceil
from typing import Any

from roost.errors import IdentifierError, InputError
from roost.jsonio import parse_object
from roost.models import Lane, check_work_id, namespace_of
from roost.storage.ports import DeadLetter, Delivery, Message

_TEXT_MAX_CHARS = 2000
_BODY_MAX_BYTES = 64 << 10  # ours have some hundred, those that were rejected their reason, too
_CAUSE_MAX = 1 << 53  # a position; no journal is as long

BODY_VERSION = 1
_NO_NAMESPACE = "default"


def delivery_of(body: str, lane: Lane, *, receipt: str, received_count: int) -> Delivery:
    """The delivery that a message is.

    Raises:
        InputError: it is not one of Roost's.
    """
    document = _document_of(body)
    try:
        work_id, cause = check_work_id(str(document["work"] or "")), document["cause"]
    except (KeyError, IdentifierError) as error:
        raise InputError(f"{type(error).__name__}: {str(error)[:200]}") from None
    if type(cause) is not int or not 0 <= cause < _CAUSE_MAX:
        raise InputError("its cause is no position")
    return Delivery(work_id, cause, lane, receipt, received_count)


def _document_of(body: str) -> dict[str, Any]:
    """The JSON object that a body is.

    Raises:
        InputError: it is none, or of another version.
    """
    document = parse_object(body, what="it", max_bytes=_BODY_MAX_BYTES)
    if document.get("v") != BODY_VERSION:
        raise InputError(f"version {str(document.get('v'))[:20]}")
    return document


def lane_of(arn: str) -> Lane:
    """The lane whose queue has this ARN: `…:STACK-LANE`.

    Raises:
        InputError: no lane's queue is called so.
    """
    try:
        return Lane(arn.rpartition(":")[2].rpartition("-")[2])
    except ValueError:
        raise InputError(f"{arn[:200]} is no lane's queue") from None


def dead_letter_of(message: dict[str, Any]) -> DeadLetter:
    """What a message of the dead-letter queue says; it may be anybody's.

    Its lane is in the body where a worker sent it there; of what SQS moved, it says from where.
    """
    text, receipt = str(message["Body"]), str(message["ReceiptHandle"])
    try:
        delivery = delivery_of(text, Lane.NORMAL, receipt=receipt, received_count=0)
        document = _document_of(text)
        lane = Lane(document["lane"]) if "lane" in document else _source_of(message)
    except (InputError, ValueError) as error:
        return DeadLetter("", 0, Lane.NORMAL, f"not one of Roost's: {error}", text[:_TEXT_MAX_CHARS], receipt)
    reason = str(document.get("reason", "received too often"))
    return DeadLetter(delivery.work_id, delivery.cause, lane, reason, text[:_TEXT_MAX_CHARS], receipt)


def _source_of(message: dict[str, Any]) -> Lane:
    """The lane from which SQS moved a message; the normal one where it was another queue, or none."""
    try:
        return lane_of(str(message.get("Attributes", {}).get("DeadLetterQueueSourceArn")))
    except InputError:
        return Lane.NORMAL


def message_entry(message: Message, **more: str) -> dict[str, Any]:
    """What SQS is given of a message; with `more` in its body."""
    body = {"v": BODY_VERSION, "work": message.work_id, "cause": message.cause, **more}
    entry: dict[str, Any] = {
        "MessageBody": json.dumps(body, separators=(",", ":")),
        # Fair queues: one namespace's backlog does not delay another's
        # (SQS Developer Guide, "Amazon SQS fair queues").
        "MessageGroupId": namespace_of(message.work_id) or _NO_NAMESPACE,
    }
    if message.delay_seconds > 0:
        entry["DelaySeconds"] = ceil(message.delay_seconds)
    return entry
