"""The engine `watchlist`: checks a URL again and again and writes a report.

What a claim means, and it means no more than this:

    contains:TEXT   the answer's status is 2xx and its decoded body contains TEXT, letter
                    for letter; blanks around TEXT don't count. Only the first `max_bytes`
                    of the body are looked at.
    status:NNN      the answer's status is NNN.
    anything else   the answer's status is 2xx. The text is kept for people and not read.

The status is that of the page at the end of the redirects. Where no answer came, no
claim holds. One check looks at one moment from one place; the verdict is about these
checks, not about the time between them.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from roost.clock import Clock, SystemClock
from roost.engine import current_step
from roost.engines.fetch import AddressRefused, Fetched, FetchFailed, fetch, url_fault
from roost.errors import FailWork, SettingsError
from roost.models import Snapshot, WorkItem

CHECKS_MAX = 1000  # bounds the snapshot too: each observation stays in it
CLAIM_MAX_CHARS = 1000
DELAY_SECONDS_MAX = 30 * 86_400.0  # 30 days
REPORT_NAME = "report.json"
ALLOW_PRIVATE_HINT = (
    "To watch addresses that are not public, set `[engines.watchlist] allow_private = true` in "
    "roost.toml, or ROOST_ENGINES__WATCHLIST__ALLOW_PRIVATE=true in the worker's environment."
)

Verdict = Literal["holds", "does not hold", "mixed"]
Observation = dict[str, Any]

_STATUS = re.compile(r"[1-5][0-9][0-9]")


class WatchlistPayload(BaseModel):
    """What a watch is enqueued with.

    Attributes:
        url: http or https, without credentials, up to 2,048 characters.
        claim: what is checked; the module's docstring says what it means.
        checks_required: how many checks make the report.
        delay_seconds: the wait between two checks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: str
    claim: str = Field(default="", max_length=CLAIM_MAX_CHARS)
    checks_required: int = Field(default=3, ge=1, le=CHECKS_MAX)
    delay_seconds: float = Field(default=5.0, ge=0, le=DELAY_SECONDS_MAX)

    @field_validator("url")
    @classmethod
    def _url_can_be_fetched(cls, url: str) -> str:
        fault = url_fault(url)
        if fault is not None:
            raise ValueError(fault)
        return url

    @field_validator("claim")
    @classmethod
    def _claim_is_complete(cls, claim: str) -> str:
        form, text = _claim(claim)
        if form == "contains" and not text:
            raise ValueError("`contains:` needs a text after it")
        if form == "status" and not _STATUS.fullmatch(text):
            raise ValueError("`status:` needs a status from 100 to 599 after it")
        return claim


class WatchlistOptions(BaseModel):
    """The keywords of `build_watchlist`, checked; text from the environment is read ("false")."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_private: bool
    timeout_seconds: float = Field(gt=0, le=600)
    max_bytes: int = Field(ge=1, le=64 << 20)


class WatchlistEngine:
    """One check per step, then a report.

    `data` of its snapshots:

        checks_completed    how many checks were done
        verdict             None until the last check, then "holds" (the claim held at all
                            checks), "does not hold" (at none) or "mixed"
        observations        one per check, oldest first:
            at                  when the check began, UTC epoch seconds
            ok                  an answer came, whatever its status
            status              its HTTP status, or None
            url                 where it came from, after redirects
            elapsed_ms          how long the check took
            bytes               size of the body, decompressed, at most `max_bytes`
            content_sha256      of these bytes, in hexadecimal, or None
            truncated           the body was longer
            claim_holds         see the module's docstring
            changed             the digest differs from that of the check before; None where
                                one of the two has none
            error               why no answer came, or None

    A check that fails is an observation, not an error. Only an address that is refused
    ends the watch, as failed. A step can run again from its snapshot: it only reads the
    URL, and of two reports only the one of the committed step counts.
    """

    engine_id = "watchlist"
    payload_model = WatchlistPayload

    def __init__(self, options: WatchlistOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock

    async def init_snapshot(self, item: WorkItem) -> Snapshot:
        """Nothing observed yet."""
        data: dict[str, Any] = {"checks_completed": 0, "verdict": None, "observations": []}
        return Snapshot.of(item, step="check", data=data)

    async def step(self, snapshot: Snapshot, item: WorkItem) -> Snapshot:
        """Do one check; after the last one, write the report and finish.

        Raises:
            FailWork: the URL leads to an address that is refused.
        """
        payload = WatchlistPayload.model_validate(item.payload)
        earlier: list[Observation] = snapshot.data["observations"]
        observation = await self._check(payload, earlier[-1] if earlier else None)
        observations = [*earlier, observation]
        data = {"observations": observations, "checks_completed": len(observations)}
        if len(observations) < payload.checks_required:
            return snapshot.next(data=data, delay=payload.delay_seconds)
        verdict = verdict_of(observations)
        await self._put_report(payload, observations, verdict)
        note = f"{len(observations)} checks: {verdict}"
        return snapshot.finish(data={**data, "verdict": verdict}, note=note)

    async def _check(self, payload: WatchlistPayload, before: Observation | None) -> Observation:
        at, started = self._clock.now(), self._clock.monotonic()
        found: Fetched | FetchFailed
        try:
            found = await fetch(
                payload.url,
                allow_private=self._options.allow_private,
                timeout_seconds=self._options.timeout_seconds,
                max_bytes=self._options.max_bytes,
            )
        except FetchFailed as error:
            found = error
        except AddressRefused as error:
            raise FailWork(f"{error}. {ALLOW_PRIVATE_HINT}") from error
        elapsed_ms = round((self._clock.monotonic() - started) * 1000, 1)
        observation = _failed(payload.url, found) if isinstance(found, FetchFailed) else _answered(found)
        observation["claim_holds"] = isinstance(found, Fetched) and claim_holds(payload.claim, found)
        observation["changed"] = _has_changed(before, observation)
        return {"at": at, "elapsed_ms": elapsed_ms, **observation}

    async def _put_report(
        self, payload: WatchlistPayload, observations: list[Observation], verdict: Verdict
    ) -> None:
        report = {
            "url": payload.url,
            "claim": payload.claim,
            "verdict": verdict,
            "checks_completed": len(observations),
            "observations": observations,
        }
        await current_step().artifacts.put(
            REPORT_NAME,
            json.dumps(report, ensure_ascii=False, indent=2).encode(),
            content_type="application/json",
            metadata={"verdict": verdict, "checks_completed": len(observations)},
        )


def claim_holds(claim: str, answer: Fetched) -> bool:
    """Whether `claim` holds for `answer`; the module's docstring says when it does."""
    form, text = _claim(claim)
    if form == "status":
        return answer.status == int(text)
    is_success = 200 <= answer.status <= 299
    return is_success and (form != "contains" or text in answer.text)


def verdict_of(observations: list[Observation]) -> Verdict:
    """The verdict on a claim that held at all, none or some of the checks."""
    held_count = sum(observation["claim_holds"] for observation in observations)
    if held_count == len(observations):
        return "holds"
    return "mixed" if held_count else "does not hold"


def _claim(claim: str) -> tuple[Literal["contains", "status", ""], str]:
    form, _, text = claim.partition(":")
    match form:
        case "contains" | "status" if ":" in claim:
            return form, text.strip()
    return "", claim


def _answered(answer: Fetched) -> Observation:
    return {
        "ok": True,
        "status": answer.status,
        "url": answer.url,
        "bytes": len(answer.body),
        "content_sha256": hashlib.sha256(answer.body).hexdigest(),
        "truncated": answer.truncated,
        "error": None,
    }


def _failed(url: str, error: FetchFailed) -> Observation:
    return {
        "ok": False,
        "status": None,
        "url": url,
        "bytes": 0,
        "content_sha256": None,
        "truncated": False,
        "error": str(error),
    }


def _has_changed(before: Observation | None, now: Observation) -> bool | None:
    if before is None or before["content_sha256"] is None or now["content_sha256"] is None:
        return None
    return bool(before["content_sha256"] != now["content_sha256"])


def build_watchlist(
    *,
    allow_private: bool = False,
    timeout_seconds: float = 10,
    max_bytes: int = 1_048_576,
    clock: Clock | None = None,
) -> WatchlistEngine:
    """The engine `watchlist`.

    Args:
        allow_private: also watch addresses that are not public. Whoever can enqueue can
            then read, through the report, what the worker can reach; keep it off where
            that is not meant.
        timeout_seconds: of one check, redirects and body included; at most 600.
        max_bytes: how much of a body is read, after decompression; at most 64 MiB.
        clock: where time comes from; the system's if not given.

    Raises:
        SettingsError: an option is out of bounds.
    """
    try:
        options = WatchlistOptions(
            allow_private=allow_private, timeout_seconds=timeout_seconds, max_bytes=max_bytes
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise SettingsError(
            f"[engines.watchlist] {fault['loc'][0]}: {fault['msg']}",
            hint="It comes from roost.toml or from ROOST_ENGINES__WATCHLIST__… in the environment.",
        ) from None
    return WatchlistEngine(options, clock or SystemClock())
