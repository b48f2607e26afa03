"""What went wrong, as a status, a problem document (RFC 9457) or a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.responses import JSONResponse

from roost.console.roles import WORDS, Deed, Role
from roost.errors import (
    ArtifactNotFound,
    ConflictError,
    EngineNotFound,
    InputError,
    RoostError,
    StorageDenied,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
    WorkNotFound,
)

PROBLEM_TYPE = "application/problem+json"
ARTICLE = {Role.VIEWER: "a viewer", Role.OPERATOR: "an operator", Role.ADMIN: "an admin"}

_STATUS: tuple[tuple[type[RoostError], HTTPStatus], ...] = (
    (WorkNotFound, HTTPStatus.NOT_FOUND),
    (ArtifactNotFound, HTTPStatus.NOT_FOUND),
    (EngineNotFound, HTTPStatus.NOT_FOUND),
    (InputError, HTTPStatus.BAD_REQUEST),
    (ConflictError, HTTPStatus.CONFLICT),
    (StorageUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (StorageDenied, HTTPStatus.FORBIDDEN),
    (StorageFull, HTTPStatus.INSUFFICIENT_STORAGE),
    (StorageReadOnly, HTTPStatus.SERVICE_UNAVAILABLE),
)


@dataclass(eq=False)
class Problem(Exception):
    """An answer that is not what was asked for.

    Attributes:
        code: a stable word for programs.
        title: what was wrong.
        hint: what to do about it.
        retry_after_seconds: when to try again, if that can help.
        errors: the faults of a request, each with `where` and `what`.
        needs: the role that would have been let through.
    """

    status: HTTPStatus
    code: str
    title: str
    hint: str = ""
    retry_after_seconds: float | None = None
    errors: list[dict[str, str]] = field(default_factory=list)
    needs: Role | None = None

    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        if self.retry_after_seconds is None:
            return {}
        return {"Retry-After": str(max(1, round(self.retry_after_seconds)))}

    def document(self) -> dict[str, object]:
        """As a problem document."""
        return {
            "type": "about:blank",
            "status": int(self.status),
            "code": self.code,
            "title": self.title,
            "detail": self.title,
            "hint": self.hint,
            "errors": self.errors,
            "needs": self.needs,
        }

    def response(self) -> JSONResponse:
        """As an answer of the API."""
        return JSONResponse(
            self.document(), status_code=self.status, media_type=PROBLEM_TYPE, headers=self.headers()
        )


def of_error(error: RoostError) -> Problem:
    """The problem that an error of Roost stands for."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    retry = 1.0 if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return Problem(status, _code(type(error).__name__), str(error), error.hint, retry)


def _code(name: str) -> str:
    """`WorkNotFound` as `work_not_found`."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")


def not_found() -> Problem:
    """There is no such page."""
    return Problem(
        HTTPStatus.NOT_FOUND, "not_found", "There is nothing at this address.", "Start at the top."
    )


def bug() -> Problem:
    """A handler failed in a way that nobody foresaw."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "bug",
        "The console failed at this request.",
        "This is a bug in Roost; the console's log says where.",
    )


def forbidden(role: Role, needed: Role, deed: Deed) -> Problem:
    """Somebody asked for what their role may not do."""
    problem = Problem(
        HTTPStatus.FORBIDDEN,
        "access_denied",
        f"This needs the role {needed}; yours is {role}.",
        f"It takes the right to {WORDS[deed]}. Ask somebody who is {ARTICLE[needed]}, or sign in as one.",
    )
    problem.needs = needed
    return problem


def of_status(status: int, detail: str, headers: Mapping[str, str]) -> Problem:
    """The problem of an error that starlette found, such as a wrong method."""
    found = HTTPStatus(status)
    allow = headers.get("Allow", "")
    return Problem(
        found, found.phrase.lower().replace(" ", "_"), detail, f"Allowed: {allow}." if allow else ""
    )
