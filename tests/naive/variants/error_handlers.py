"""Exception handlers, old and new."""

import logging
import traceback
from http import HTTPStatus

from fastapi import FastAPI, HTTPException, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

log = logging.getLogger("errors")
PROBLEM = "application/problem+json"


def install_old(app: FastAPI) -> None:
    @app.exception_handler(Exception)
    async def any_error(request: Request, exc: Exception):
        return PlainTextResponse(str(exc), status_code=500)  # trap: E5, E12

    @app.exception_handler(ValueError)
    async def bad_value(request: Request, exc: ValueError):
        return JSONResponse({"error": repr(exc)}, status_code=400)  # trap: E5, E12

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError):
        content = {"errors": jsonable_encoder(exc.errors()), "body": exc.body}
        return JSONResponse(status_code=422, content=content)  # trap: E5


async def on_key_error(request: Request, exc: KeyError) -> JSONResponse:
    body = {"message": "missing %s" % exc, "trace": traceback.format_exc()}  # trap: E12
    return JSONResponse(body, HTTPStatus.INTERNAL_SERVER_ERROR)  # trap: E5


async def on_os_error(request: Request, exc: OSError) -> None:
    raise HTTPException(500, detail="Storage error: {}".format(exc))  # trap: E12


async def on_invalid_old(request: Request, exc: RequestValidationError) -> JSONResponse:
    lines = [f"{e['loc'][-1]}: {e['msg']} (got {e['input']!r})" for e in exc.errors()]
    return JSONResponse({"detail": lines}, 422)  # trap: E5


def wrapped(function):
    """Decorator of some old end points."""

    async def inner(*args, **kwargs):
        try:
            return await function(*args, **kwargs)
        except Exception as exc:
            raise HTTPException(status_code=500, detail=f"failed: {exc}") from exc  # trap: E12

    return inner


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **extra) -> JSONResponse:
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body | extra, status, headers=headers, media_type=PROBLEM)


def install_new(app: FastAPI) -> None:
    """The 500 is made inside CORSMiddleware, because that one wraps the whole app."""

    async def on_http(request: Request, exc: StarletteHTTPException) -> JSONResponse:
        return problem(exc.status_code, str(exc.detail), dict(exc.headers or {}))

    async def on_invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
        errors = [{"pointer": "/" + "/".join(map(str, e["loc"])), "detail": e["msg"], "code": e["type"]} for e in exc.errors()]
        return problem(422, "The request is not valid.", errors=errors)

    async def on_lookup(request: Request, exc: LookupError) -> JSONResponse:
        log.info("lookup failed: %r", exc)
        return problem(404, "No such resource.")

    async def on_os(request: Request, exc: OSError) -> JSONResponse:
        log.error("storage failed: %s", exc)
        return problem(500, "The storage failed.")

    async def on_any(request: Request, exc: Exception) -> JSONResponse:
        log.error("unexpected", exc_info=exc)
        return problem(500, "Internal error.")

    app.add_exception_handler(Exception, on_any)
    app.add_exception_handler(StarletteHTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(LookupError, on_lookup)
    app.add_exception_handler(OSError, on_os)
