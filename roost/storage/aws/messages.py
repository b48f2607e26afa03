"""What a message of a lane's queue says: ids only, as JSON with a version."""

from __future__ import annotations

import json
from typing import Any

from roost.errors import IdentifierError, InputError
from roost.models import Lane, check_work_id
from roost.storage.ports import DeadLetter, Delivery

_TEXT_MAX_CHARS = 2000

BODY_VERSION = 1


def delivery_of(body: str, lane: Lane, *, receipt: str, received_count: int) -> Delivery:
    """The delivery that a message is.

    Raises:
        InputError: it is not one of Roost's.
    """
    try:
        document = json.loads(body)
        if document["v"] != BODY_VERSION:
            raise ValueError(f"version {document['v']!r}")
        work_id, cause = check_work_id(str(document["work"] or "")), int(document["cause"])
    except (ValueError, TypeError, KeyError, IdentifierError) as error:
        raise InputError(f"{type(error).__name__}: {str(error)[:200]}") from None
    return Delivery(work_id, cause, lane, receipt, received_count)


def dead_letter_of(message: dict[str, Any]) -> DeadLetter:
    """What a message of the dead-letter queue says; it may be anybody's."""
    text, receipt = str(message["Body"]), str(message["ReceiptHandle"])
    try:
        delivery = delivery_of(text, Lane.NORMAL, receipt=receipt, received_count=0)
        document = json.loads(text)
        lane = Lane(document.get("lane", Lane.NORMAL))
    except (InputError, ValueError) as error:
        return DeadLetter("", 0, Lane.NORMAL, f"not one of Roost's: {error}", text[:_TEXT_MAX_CHARS], receipt)
    reason = str(document.get("reason", "received too often"))
    return DeadLetter(delivery.work_id, delivery.cause, lane, reason, text[:_TEXT_MAX_CHARS], receipt)
