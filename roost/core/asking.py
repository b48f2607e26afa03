"""What a step asks people for: makes the token, and the shape of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from roost.core.replies import check_schema
from roost.core.tokens import Asked, Signer
from roost.errors import IdentifierError
from roost.models import Approval, check_name
from roost.names import APPROVAL_MARK

NAME_MAX_BYTES = 200
Reply = type[BaseModel] | Mapping[str, Any] | None


def ask(signer: Signer, work_id: str, version: int, name: str, reply: Reply) -> Approval:
    """The approval `name` that the commit of `version` will wait for.

    Raises:
        IdentifierError: the name can't be taken.
        EngineContractError: the reply is no JSON Schema.
        SettingsError: there is no secret to sign with.
    """
    if len(check_name(name, "approval name").encode()) > NAME_MAX_BYTES:
        raise IdentifierError(f"approval name {name[:40]!r} has more than {NAME_MAX_BYTES} bytes")
    schema = dict(reply) if isinstance(reply, Mapping) else {} if reply is None else reply.model_json_schema()
    if schema:
        check_schema(name, schema)
    token = signer.sign(Asked(work_id, version, name))
    return Approval(
        name=name, signal=f"{APPROVAL_MARK}{name}", token=token, link=signer.link(token), reply=schema
    )
