"""The minimal problem: an HTTPException that also has a type and extension members.

Without the errors module FastAPI's own handler answers it with `{"detail": …}`; with that module
the same exception becomes an `application/problem+json` document (RFC 9457).

A module defines the types of its problems where it raises them, and its part names them: so an
application lists those of the parts that it has, and no others.
"""

from collections.abc import Iterable, Mapping
from http.client import responses
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException


def title_of(status: int) -> str:
    """Return the reason phrase of a status, also of one that nobody has registered."""
    return responses.get(status, "Error")


class ProblemType(NamedTuple):
    """A type of problem, for those that a program handles in another way than their status tells.

    `Problem(409, type=SOLD_OUT)` refers to it.
    """

    name: str
    """The end of its URI, or the whole URI of a type that is defined elsewhere."""
    title: str
    meaning: str
    """What has happened, and what a client does about it; the text of its page."""


INVALID = ProblemType(
    "invalid-request",
    "The request is not valid",
    "Some part of the request is not what the documentation of the operation asks for. Each of"
    " `errors` has the place as a JSON Pointer, such as `/query/limit`, and what is wrong there"
    " (`detail` for people, `code` for programs). The same request will fail again: correct it.",
)


class Problem(HTTPException):
    """Raise to refuse a request: it becomes the response, with this status.

    After the response has begun, it becomes the last record of formats that have one, and the
    connection is aborted.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        type: ProblemType | None = None,  # noqa: A002  # As the member is called.
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """`detail` is for people, by default the reason phrase of the status.

        `headers` are those of the response (such as Retry-After), `members` further ones of the
        document (RFC 9457, section 3.2).
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
