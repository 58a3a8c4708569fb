"""Problems: HTTPExceptions that also have a type and extension members.

Without the errors module the response is FastAPI's `{"detail": …}`; with it the same exception
becomes an `application/problem+json` document (RFC 9457).

A module defines its problem types where it raises them, and its part lists them: an application
documents the types of its own parts only.
"""

import errno
from collections.abc import Iterable, Mapping
from http.client import responses
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException

#: Errors of a full disk, or of a full quota.
FULL_DISK = {errno.ENOSPC, errno.EDQUOT}


def title_of(status: int) -> str:
    """Return the reason phrase of a status, "Error" for one that is not registered."""
    return responses.get(status, "Error")


class ProblemType(NamedTuple):
    """A type of problem, for clients that need to distinguish problems with the same status.

    Use it as `Problem(409, type=SOLD_OUT)`.
    """

    name: str
    """The last segment of its URI, or the whole URI of a type that is defined elsewhere."""
    title: str
    meaning: str
    """The cause, and what a client can do; the text of its page."""


INVALID = ProblemType(
    "invalid-request",
    "The request is not valid",
    "A part of the request does not match the documentation of the operation. Each item of `errors`"
    " contains the place (`pointer`, a JSON Pointer such as `/query/limit`) and the error (`detail`"
    " for people, `code` for programs). The same request will fail again: correct it.",
)


class Problem(HTTPException):
    """Raise it to refuse a request: it becomes the response, with this status.

    After the response has begun it becomes the last record, in formats that have one for errors,
    and the connection is aborted.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        type: ProblemType | None = None,  # noqa: A002  # The name of the member.
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """`detail` is for people; the default is the reason phrase of the status.

        `headers` belong to the response (such as Retry-After), `members` to the document (RFC 9457,
        section 3.2).
        """
        self.title = title_of(status)
        super().__init__(status, detail or self.title, dict(headers or {}))
        self.type = type
        self.members = members

    def document(self) -> dict[str, Any]:
        """Return the document without the members that the errors module adds."""
        own = {"title": self.title, "status": self.status_code, "detail": self.detail}
        return {**own, **self.members}

    @classmethod
    def of(cls, error: BaseException) -> "Problem":
        """Return the problem that a client may see; 500 without details for most other errors."""
        if isinstance(error, cls):
            return error
        is_full = isinstance(error, OSError) and error.errno in FULL_DISK
        return cls(507, "The disk is full.") if is_full else cls(500)


def invalid(errors: Iterable[Any], detail: str = "The request is not valid.") -> Problem:
    """Return the problem for the validation errors of pydantic or FastAPI."""
    return Problem(422, detail, type=INVALID, errors=places(errors))


def places(errors: Iterable[Any]) -> list[dict[str, str]]:
    """Return validation errors as `{pointer, detail, code}`, without the invalid values.

    `pointer` is a JSON Pointer (RFC 6901).
    """
    return [
        {
            "pointer": _pointer(each["loc"]),
            "detail": _DETAILS.get(each["type"], each["msg"]),
            "code": each["type"],
        }
        for each in errors
    ]


#: Replacements for messages that quote the input or an exception, or contain a line number.
_DETAILS = {
    "json_invalid": "This is not valid JSON.",
    "value_error": "This value is not valid.",
    "assertion_error": "This value is not valid.",
    "union_tag_invalid": "This tag is not known.",
    "uuid_parsing": "This is not a valid UUID.",
}


def _pointer(location: Iterable[str | int]) -> str:
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in escaped)
