"""Approvals: an ask with a signed token, answered once, by a reply of the shape that was asked for.

An ask is a wait for a signal whose name nobody else may use, and the answer is that signal:
durable before it is acknowledged, seen by one step, with who and when. The id of the signal
follows from the ask, so a second answer is known as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roost.core import replies, signals
from roost.core.parts import Parts
from roost.core.tokens import Asked
from roost.errors import ConflictError, WorkNotFound
from roost.journal.entries import Control, Entry
from roost.models import Signal
from roost.names import APPROVAL_MARK


@dataclass(frozen=True, slots=True)
class OpenApproval:
    """An ask that can be answered now.

    Attributes:
        name: what the engine calls it.
        token, link: what answers it; the link is the token where no URL is set.
        schema: JSON Schema of the reply; empty: any JSON.
        until: epoch seconds at which it expires; None: never.
        fails: the work fails then; else the engine decides.
    """

    work_id: str
    version: int
    name: str
    token: str
    link: str
    schema: Mapping[str, Any]
    until: float | None
    fails: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """What a token is for: the ask, and whether it can be answered.

    Attributes:
        open: None: it can't be;
        fault: why not, as a sentence.
    """

    work_id: str
    engine: str
    name: str
    open: OpenApproval | None
    fault: str = ""


async def look(parts: Parts, token: str) -> Ask:
    """What a token asks for; nothing is answered.

    Raises:
        InputError: the token is not ours.
        SettingsError: there is no secret.
        WorkNotFound: the work item is gone.
    """
    asked = parts.settings.approvals.read(token)
    tail = await parts.backend.journal.tail(asked.work_id)
    if tail is None:
        raise WorkNotFound(asked.work_id)
    engine = tail.control.engine
    try:
        _check_open(tail, asked, parts.clock.now())
    except ConflictError as error:
        return Ask(asked.work_id, engine, asked.name, None, f"{error}.")
    found = [one for one in await open_approvals(parts, tail) if one.name == asked.name]
    return Ask(asked.work_id, engine, asked.name, found[0] if found else None)


async def open_approvals(parts: Parts, tail: Entry) -> Sequence[OpenApproval]:
    """All that can be answered now, in the order in which the wait names them."""
    control, signer = tail.control, parts.settings.approvals
    asked = [name for name in _asked_names(control) if _fault(control, name, parts.clock.now()) is None]
    if not asked or control.waits is None:
        return ()
    schemas = await replies.shapes(parts, tail)
    found = []
    for name in asked:
        token = signer.sign(Asked(tail.work_id, control.version, name))
        found.append(
            OpenApproval(
                work_id=tail.work_id,
                version=control.version,
                name=name,
                token=token,
                link=signer.link(token),
                schema=schemas.get(f"{APPROVAL_MARK}{name}", {}),
                until=control.waits.until,
                fails=control.waits.fails,
            )
        )
    return found


async def answer(parts: Parts, token: str, data: Any, *, actor: str) -> signals.Sent:
    """Answer an ask. The same answer by the same actor, given again, is one.

    Raises:
        InputError: the token is not ours, or the reply is not of the shape that was asked for.
        WorkNotFound: the work item is gone.
        ConflictError: it was answered before, or is not asked yet, or no longer.
    """
    asked = parts.settings.approvals.read(token)

    async def check(tail: Entry) -> None:
        _check_open(tail, asked, parts.clock.now())
        schema = (await replies.shapes(parts, tail)).get(f"{APPROVAL_MARK}{asked.name}")
        if schema:
            replies.check(schema, data)

    sent = await signals.send(
        parts,
        asked.work_id,
        f"{APPROVAL_MARK}{asked.name}",
        data,
        signal_id=asked.signal_id,
        actor=actor,
        check=check,
    )
    if not sent.is_new:
        _check_same(await signals.read_one(parts, asked.work_id, sent.position), data, actor)
    return sent


def _check_same(stands: Signal, data: Any, actor: str) -> None:
    if stands.data != data or stands.actor != actor:
        raise ConflictError(
            f"this was answered before, by {stands.actor}", hint="`roost signals` shows what was answered."
        )


def _asked_names(control: Control) -> list[str]:
    names = control.waits.names if control.waits is not None else ()
    return [name.removeprefix(APPROVAL_MARK) for name in names if name.startswith(APPROVAL_MARK)]


def _fault(control: Control, name: str, now: float) -> str | None:
    """Why an ask of the last commit can't be answered."""
    waits = control.waits
    is_answered = any(pending == f"{APPROVAL_MARK}{name}" for _, pending in control.signals)
    if control.state.is_terminal or waits is None or name not in _asked_names(control):
        return "is no longer asked for"
    if is_answered:
        return "was answered"
    return "has expired" if waits.until is not None and waits.until <= now else None


def _check_open(tail: Entry, asked: Asked, now: float) -> None:
    control = tail.control
    if control.version < asked.version:
        raise ConflictError(
            f"approval {asked.name!r} of {tail.work_id} is not asked for yet", hint="Try again in a moment."
        )
    is_newer = control.version > asked.version
    fault = "is no longer asked for" if is_newer else _fault(control, asked.name, now)
    if fault is not None:
        raise ConflictError(
            f"approval {asked.name!r} of {tail.work_id} {fault}",
            hint=f"`roost status {tail.work_id}` shows how things stand.",
        )
