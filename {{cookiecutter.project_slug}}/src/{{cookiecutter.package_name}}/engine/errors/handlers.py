"""Every error of a request as `application/problem+json`: ours, the framework's, and bugs."""

from html import escape

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..kernel.exchange import exchange_of
from ..kernel.kernel import Kernel, kernel_of
from ..kernel.part import Part
from ..kernel.problem import Problem, ProblemType, invalid
from .documents import MEDIA_TYPE, SCHEMA, describe


class ProblemDocuments(Part):
    """Sends all errors as problem documents (RFC 9457), in streams that have begun as well.

    Adds `GET /problems/NAME`, a page for each type.
    """

    def __init__(self, *problem_types: ProblemType) -> None:
        """`problem_types` are those of your own problems, which get pages, too."""
        self.problem_types = problem_types

    def add_to(self, app: FastAPI) -> None:
        # Starlette's HTTPException, not FastAPI's subclass: 404 and 405 are raised by the router.
        app.exception_handler(HTTPException)(_http_exception)
        app.exception_handler(RequestValidationError)(_validation_error)
        # What nobody handles is answered by the kernel, with this document and media type.
        kernel: Kernel = app.state.kernel
        kernel.describe, kernel.media_type, kernel.error_schema = describe, MEDIA_TYPE, SCHEMA
        app.include_router(router)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    return kernel_of(request.scope).response_to(error, exchange_of(request.scope))


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    return await _http_exception(request, invalid(error.errors()))


router = APIRouter(prefix="/problems", include_in_schema=False)


@router.head("")
@router.get("")
async def index(request: Request) -> HTMLResponse:
    """List the types of problems that this application has."""
    items = [
        f'<li><a href="{escape(_address(name))}">{escape(kind.title)}</a></li>'
        for name, kind in sorted(kernel_of(request.scope).problem_types.items())
    ]
    return _page("Problems", f"<ul>{''.join(items)}</ul>")


@router.head("/{name}")
@router.get("/{name}")
async def describe_type(name: str, request: Request) -> HTMLResponse:
    """Describe what a type of problem means, and what a client does about it."""
    kind = kernel_of(request.scope).problem_types.get(name)
    if kind is None:
        raise Problem(404, "There is no such type of problem.")
    return _page(kind.title, f'<p>{_text(kind.meaning)}</p><p><a href="../problems">All</a></p>')


def _address(name: str) -> str:
    return name if ":" in name else f"problems/{name}"


def _text(meaning: str) -> str:
    """Return text as HTML; what is between backquotes is code."""
    parts = enumerate(escape(meaning).split("`"))
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in parts)


def _page(title: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<h1>{escape(title)}</h1>{content}</html>"
    )
