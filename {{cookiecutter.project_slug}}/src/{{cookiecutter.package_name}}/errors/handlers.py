"""Every error of a request as `application/problem+json`: ours, the framework's, and bugs."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ..streaming import exchange_of, kernel_of
from .documents import MEDIA_TYPE, describe, validation_problem


def install(app: FastAPI) -> None:
    """Answer all errors of `app` with problem documents, in streams that have begun as well."""
    # Starlette's HTTPException, not FastAPI's subclass: 404 and 405 are raised by the router.
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(RequestValidationError)(_validation_error)
    # What nobody handles is answered by the kernel, with this document and media type.
    kernel_of({"app": app}).describe = describe
    kernel_of({"app": app}).media_type = MEDIA_TYPE


async def _http_exception(request: Request, error: HTTPException) -> Response:
    if error.status_code in (204, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    document = describe(error, exchange_of(request.scope))
    return JSONResponse(document, error.status_code, error.headers, MEDIA_TYPE)


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    return await _http_exception(request, validation_problem(error.errors()))
