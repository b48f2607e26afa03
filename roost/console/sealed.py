"""Receipts of messages that were set aside, which say what their message names, so that nobody else can.

A queue such as Amazon SQS does not tell what a receipt is of: whoever gives one back with the name
of some work would end a message that names other work, or none. So the receipts that leave the
console are signed together with what their messages say.
"""

from __future__ import annotations

import hashlib
import hmac
import json

from msgspec.structs import replace
from pydantic import SecretStr

from roost import clock
from roost.config import Settings
from roost.errors import InputError
from roost.storage.ports import DeadLetter

_DOMAIN = b"roost console messages"  # what is signed for this is good for nothing else


class Seals:
    """Signs receipts, and reads what it signed.

    With secrets in the settings a receipt is good in every process that has the same; else in this one.
    """

    def __init__(self, settings: Settings) -> None:
        console = settings.console
        secrets: list[SecretStr | None] = [
            console.admin_token,
            console.operator_token,
            console.viewer_token,
            console.proxy_secret,
            settings.approvals.signing_secret,
        ]
        texts = [None if one is None else one.get_secret_value() for one in secrets]
        known = json.dumps(texts) if any(texts) else clock.secret()
        self._key = hmac.digest(_DOMAIN, known.encode(), "sha256")

    def seal(self, letter: DeadLetter) -> DeadLetter:
        """The same with a signed receipt."""
        return replace(letter, receipt=f"{self._mac(letter)}.{letter.receipt}")

    def open(self, letter: DeadLetter) -> DeadLetter:
        """The same with the receipt that the queue gave.

        Raises:
            InputError: no message with this receipt says so.
        """
        mac, _, receipt = letter.receipt.partition(".")
        found = replace(letter, receipt=receipt)
        if not hmac.compare_digest(self._mac(found).encode(), mac.encode()):
            raise InputError(
                "a message is not as it was listed",
                hint="Send back what `/failed/messages` gave, unchanged. Where several processes serve the "
                "console, they need the same secrets, such as ROOST_APPROVALS__SIGNING_SECRET.",
            )
        return found

    def _mac(self, letter: DeadLetter) -> str:
        text = json.dumps([letter.work_id, letter.cause, letter.lane, letter.receipt])
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
