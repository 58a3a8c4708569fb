"""Exception handlers and middleware of the owner, when a request or a response fails."""

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.engine.settings import ServiceSettings
from {{cookiecutter.package_name}}.engine.testing import LiveServer


class Missing(AnyHTTPException):
    """An error of the owner, with an HTTP status."""


async def asynchronous(request: Request, error: Any) -> Response:
    return PlainTextResponse("owner", error.status_code)


def synchronous(request: Request, error: Any) -> Response:
    return PlainTextResponse("owner", error.status_code)


def make() -> Service:
    settings: Any = ServiceSettings
    app = Service(settings(_env_file=None))

    @app.get("/none")
    async def none() -> None:
        raise HTTPException(404)

    @app.get("/missing")
    async def missing() -> None:
        raise Missing(404)

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError

    @app.websocket("/bug")
    async def bug_of_socket(websocket: WebSocket) -> None:
        raise ZeroDivisionError

    return app


@pytest.mark.parametrize("handler", [asynchronous, synchronous])
@pytest.mark.parametrize(
    ("kind", "requests"),
    [
        (AnyHTTPException, ["GET /none", "GET /missing", "GET /nothing", "POST /none"]),
        (HTTPException, ["GET /none"]),
        (Missing, ["GET /missing"]),
    ],
)
async def test_a_handler_of_a_class_is_called_for_404_and_405(
    kind: type[Exception], requests: list[str], handler: Any
) -> None:
    app = make()
    app.add_exception_handler(kind, handler)

    async with LiveServer(app) as service, service.client() as client:
        answers = [await client.request(*each.split()) for each in requests]

    assert [answer.text for answer in answers] == ["owner"] * len(requests)
    assert {answer.status_code for answer in answers} <= {404, 405}


async def test_a_handler_of_everything_is_called_once_and_in_a_thread() -> None:
    app = make()
    calls = []

    @app.exception_handler(Exception)
    def handle(request: Request, error: Exception) -> Response:
        calls.append((type(error), threading.current_thread()))
        return PlainTextResponse("owner", 500)

    async with LiveServer(app) as service, service.client() as client:
        answer = await client.get("/bug")
        loop_thread = await service.in_server(this_thread())

    assert answer.text == "owner"
    [(kind, thread)] = calls
    assert kind is ZeroDivisionError
    assert thread is not loop_thread


async def this_thread() -> threading.Thread:
    return threading.current_thread()


async def test_a_handler_of_everything_is_not_asked_for_a_websocket() -> None:
    app = make()
    app.add_exception_handler(Exception, asynchronous)
    scope = {"type": "websocket", "path": "/bug", "headers": [], "query_string": b""}
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(ZeroDivisionError):
        await app({**scope, "scheme": "ws", "extensions": {}}, receive, send)

    assert b"owner" not in [message.get("body") for message in sent]


class Stamp(BaseHTTPMiddleware):
    """A middleware like those in Starlette's documentation."""

    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers["X-Stamp"] = "owner"
        return response


async def test_a_stream_that_fails_is_cut_whatever_middleware_is_around_it() -> None:
    app = make()
    app.add_middleware(Stamp)

    @app.get("/rows", response_class=StreamingResponse)
    async def rows() -> Response:
        async def produce() -> AsyncGenerator[bytes]:
            yield b"first\n"
            raise ZeroDivisionError

        return StreamingResponse(produce())

    async with LiveServer(app) as service, service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/rows")


async def test_a_middleware_may_answer_in_the_place_of_what_failed() -> None:
    app = make()

    @app.middleware("http")
    async def rescue(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        try:
            return await call_next(request)
        except ZeroDivisionError:
            return PlainTextResponse("rescued", 503)

    async with LiveServer(app) as service, service.client() as client:
        answer = await client.get("/bug")

    assert (answer.status_code, answer.text) == (503, "rescued")


@pytest.mark.parametrize("path", ["/inner", "/plain/inner"])
async def test_a_service_works_below_another_application(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, plain = make(), FastAPI()
    plain.mount("/inner", make())
    app.mount("/plain", plain)
    app.mount("/inner", make())

    async with LiveServer(app) as service, service.client() as client:
        live = await client.get(f"{path}/health/live")
        other = await client.post(f"{path}/health/live")

    assert live.json() == {"status": "live"}
    assert other.status_code == 405
    assert other.headers["allow"] == "GET, HEAD"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
