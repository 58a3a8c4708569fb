"""The minimal problem: an HTTPException that also has a type and extension members.

Without the errors module FastAPI's own handler answers it with `{"detail": …}`; with that module
the same exception becomes an `application/problem+json` document (RFC 9457).

A module declares the types of its problems where it raises them: so a service knows those of the
modules that it has, and no others.
"""

from collections.abc import Iterable, Mapping
from http.client import responses
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException


def title_of(status: int) -> str:
    """Return the reason phrase of a status, also of one that nobody has registered."""
    return responses.get(status, "Error")


class ProblemType(NamedTuple):
    """What people are told of a type of problem."""

    title: str
    meaning: str
    """What has happened, and what a client does about it."""


#: All that have been declared, by name.
PROBLEM_TYPES: dict[str, ProblemType] = {}


def problem_type(name: str, title: str, meaning: str) -> str:
    """Declare a type of problem and return its name, which is part of its URI (or all of it).

    For problems that a program does something else about than their status alone tells it.
    """
    PROBLEM_TYPES[name] = ProblemType(title, meaning)
    return name


INVALID = problem_type(
    "invalid-request",
    "The request is not valid",
    "Some part of the request is not what the documentation of the operation asks for. Each of"
    " `errors` has the place as a JSON Pointer, such as `/query/limit`, and what is wrong there"
    " (`detail` for people, `code` for programs). The same request will fail again: correct it.",
)


class Problem(HTTPException):
    """Raise to refuse a request; before the response has started it becomes the answer."""

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        type: str | None = None,  # noqa: A002  # As the member is called.
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """`type` is one that was declared; `members` are others of the document.

        See RFC 9457, sections 3.1.1 and 3.2.
        """
        self.title = title_of(status)
        super().__init__(status, detail or self.title, dict(headers or {}))
        self.type = type
        self.members = members

    def document(self) -> dict[str, Any]:
        """Return the document as far as the kernel knows it."""
        return {
            "title": self.title,
            "status": self.status_code,
            "detail": self.detail,
            **self.members,
        }

    @classmethod
    def of(cls, error: BaseException) -> "Problem":
        """Return what a client may know of an error: a bug's own words stay in the log."""
        return error if isinstance(error, cls) else cls(500)


def invalid(errors: Iterable[Any], detail: str = "The request is not valid.") -> Problem:
    """Return the problem for what pydantic or FastAPI found wrong with a request."""
    return Problem(422, detail, type=INVALID, errors=places(errors))


def places(errors: Iterable[Any]) -> list[dict[str, str]]:
    """Return what pydantic found as `{pointer, detail, code}`: without what it found there.

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


#: Instead of messages that quote the input or an exception, or name a place in "line 1".
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
