"""Every error as `application/problem+json` (RFC 9457), and a page for each type of problem.

A document repeats neither input nor the text of an exception: both may hold data that the client
must not see.
"""

from html import escape
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..kernel.access import public
from ..kernel.exchange import Exchange, exchange_of
from ..kernel.kernel import Kernel, kernel_of
from ..kernel.part import Part
from ..kernel.problem import Problem, ProblemType, invalid, title_of

MEDIA_TYPE = "application/problem+json"

#: The JSON schema of a document; a type may define more members.
SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "An error (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "For programs; `about:blank` if the status is sufficient.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "request_id": {"type": "string"},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "format": "json-pointer"},
                    "detail": {"type": "string"},
                    "code": {"type": "string"},
                },
                "required": ["pointer", "detail", "code"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
}

router = APIRouter(prefix="/problems", include_in_schema=False)


class ProblemDocuments(Part):
    """Sends all errors as problem documents (RFC 9457), also in streams that have begun.

    Adds `GET /problems/NAME`, a page for each type.
    """

    def __init__(self, *problem_types: ProblemType) -> None:
        """`problem_types` are those of your own problems, which get pages too."""
        self.problem_types = problem_types

    def add_to(self, app: FastAPI) -> None:
        # Starlette's HTTPException, not FastAPI's subclass: the router raises it for 404 and 405.
        app.exception_handler(HTTPException)(_http_exception)
        app.exception_handler(RequestValidationError)(_validation_error)
        # The kernel responds to unhandled errors, with this document and media type.
        kernel: Kernel = app.state.kernel
        kernel.describe, kernel.media_type, kernel.error_schema = describe, MEDIA_TYPE, SCHEMA
        app.include_router(router)


def describe(error: HTTPException, exchange: Exchange) -> dict[str, Any]:
    """Return the document of an error; only a Problem may have a type of its own."""
    title = title_of(error.status_code)
    document = {
        "type": "about:blank",
        "title": title,
        "status": error.status_code,
        "detail": error.detail or title,
        # Percent-encoded, so that it is a valid URI for any path.
        "instance": quote(exchange.scope["path"], safe="/:@!$&'()*+,;=~"),
        "request_id": exchange.request_id,
    }
    if exchange.trace_id:
        document["trace_id"] = exchange.trace_id
    if isinstance(error, Problem):
        if error.type is not None:
            document["type"] = _uri_of(error.type.name, exchange)
            document["title"] = error.type.title
        document |= error.members
    return document


def _uri_of(name: str, exchange: Exchange) -> str:
    """Return the URI of a type: that of its page here, unless it is defined elsewhere."""
    if ":" in name:
        return name
    scope = exchange.scope
    base = scope["app"].state.settings.server.public_url or scope.get("root_path", "")
    return f"{base}/problems/{name}"


async def _http_exception(request: Request, error: HTTPException) -> Response:
    return kernel_of(request.scope).response_to(error, exchange_of(request.scope))


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    return await _http_exception(request, invalid(error.errors()))


@router.head("")
@router.get("")
@public
async def index(request: Request) -> HTMLResponse:
    """List the types of problems of this application."""
    types = sorted(kernel_of(request.scope).problem_types.items())
    links = [(name if ":" in name else f"problems/{name}", kind.title) for name, kind in types]
    items = [f'<li><a href="{escape(url)}">{escape(title)}</a></li>' for url, title in links]
    return _page("Problems", f"<ul>{''.join(items)}</ul>")


@router.head("/{name}")
@router.get("/{name}")
@public
async def describe_type(name: str, request: Request) -> HTMLResponse:
    """Describe the meaning of a type of problem, and the remedy."""
    kind = kernel_of(request.scope).problem_types.get(name)
    if kind is None:
        raise Problem(404, "There is no such type of problem.")
    parts = enumerate(escape(kind.meaning).split("`"))  # Odd parts are code.
    text = "".join(f"<code>{part}</code>" if number % 2 else part for number, part in parts)
    return _page(kind.title, f'<p>{text}</p><p><a href="../problems">All</a></p>')


def _page(title: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<h1>{escape(title)}</h1>{content}</html>"
    )
