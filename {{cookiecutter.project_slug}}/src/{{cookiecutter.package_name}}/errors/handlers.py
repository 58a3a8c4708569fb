"""Every error of a request as `application/problem+json`: ours, the framework's, and bugs."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..streaming import exchange_of, invalid, kernel_of
from .documents import MEDIA_TYPE, SCHEMA, describe
from .pages import router as pages


def install(app: FastAPI) -> None:
    """Answer all errors of `app` with problem documents, in streams that have begun as well."""
    # Starlette's HTTPException, not FastAPI's subclass: 404 and 405 are raised by the router.
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(RequestValidationError)(_validation_error)
    # What nobody handles is answered by the kernel, with this document and media type.
    kernel = kernel_of({"app": app})
    kernel.describe, kernel.media_type, kernel.error_schema = describe, MEDIA_TYPE, SCHEMA
    app.include_router(pages)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    return kernel_of(request.scope).response_to(error, exchange_of(request.scope))


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    return await _http_exception(request, invalid(error.errors()))
