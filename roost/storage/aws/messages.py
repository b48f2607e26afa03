"""What a message of a lane's queue says: ids only, as JSON with a version."""

from __future__ import annotations

import json

from roost.errors import IdentifierError, InputError
from roost.models import Lane, check_work_id
from roost.storage.ports import Delivery

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
