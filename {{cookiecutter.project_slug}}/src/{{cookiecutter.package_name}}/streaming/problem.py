"""The minimal problem: an HTTPException that also has a title and extension members.

Without the errors module FastAPI's own handler answers it with `{"detail": …}`; with that module
the same exception becomes an `application/problem+json` document (RFC 9457).
"""

from collections.abc import Mapping
from http.client import responses
from typing import Any

from starlette.exceptions import HTTPException


def title_of(status: int) -> str:
    """Return the reason phrase of a status, also of one that nobody has registered."""
    return responses.get(status, "Error")


class Problem(HTTPException):
    """Raise to refuse a request; before the response has started it becomes the answer."""

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """`members` are extension members of the document (RFC 9457, section 3.2)."""
        self.title = title_of(status)
        super().__init__(status, detail or self.title, dict(headers or {}))
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
