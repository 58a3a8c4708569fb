"""Problem documents (RFC 9457): what a client is told, and what stays in the log.

No input is echoed and no exception's text is repeated: both may hold what others must not see.
"""

from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException

from ..streaming import Exchange, Problem, title_of

MEDIA_TYPE = "application/problem+json"


def describe(error: HTTPException, exchange: Exchange) -> dict[str, Any]:
    members = error.members if isinstance(error, Problem) else {}
    title = title_of(error.status_code)
    return {
        "type": "about:blank",
        "title": title,
        "status": error.status_code,
        "detail": error.detail or title,
        "instance": str(exchange.scope["path"]),
        "request_id": exchange.request_id,
        **members,
    }


def validation_problem(errors: Sequence[Any]) -> Problem:
    """Return the problem for what FastAPI found wrong with a request.

    `errors` is a list of `{pointer, detail, code}`; `pointer` is a JSON Pointer (RFC 6901) that
    starts with the part of the request: `/query/limit`, `/path/topic`, `/header/…`.
    """
    return Problem(
        422,
        "The request is not valid.",
        errors=[
            {"pointer": _pointer(error["loc"]), "detail": error["msg"], "code": error["type"]}
            for error in errors
        ],
    )


def _pointer(location: Sequence[str | int]) -> str:
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in escaped)
