"""Files, mounted applications, Starlette's routes and WebSockets of the owner."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import Request
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from ..peer import PATIENCE
from ..service import Service
from .routes import Source

BIG = 64 << 20


@pytest.fixture
async def service(serve: Any, tmp_path: Path) -> Any:
    service: Any = await serve()
    app: FastAPI = service.app
    big = tmp_path / "public" / "big.bin"
    big.parent.mkdir()
    with big.open("wb") as file:
        file.truncate(BIG)

    @app.get("/file")
    async def file_() -> FileResponse:
        return FileResponse(big)

    app.mount("/static", StaticFiles(directory=big.parent))
    source = service.source = Source()
    inner = FastAPI()
    inner.include_router(source.router())
    app.mount("/inner", inner)

    async def plain(request: Request) -> StreamingResponse:
        return StreamingResponse(source.items())

    app.router.routes.append(Route("/plain", plain))
    return service


PATHS = ["/file", "/static/big.bin", "/inner/streaming", "/inner/lines", "/inner/sse", "/plain"]
#: Their labels in logs and metrics: a mounted folder has no route, nor has a route of Starlette.
ROUTES = {
    "/static/big.bin": "(none)",
    "/inner/streaming": "/streaming",
    "/inner/lines": "/lines",
    "/inner/sse": "/sse",
    "/plain": "(none)",
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_leaves(service: Any, path: str) -> None:
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get(path)
        await peer.read_head()
        peer.reset()
    ended = await service.ended(f"GET {ROUTES.get(path, path)}")
    assert ended.outcome == "client_abort"


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_does_not_read(service: Any, path: str) -> None:
    service.source.item, service.source.pause = "item" * 10_000, None
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get(path)
        ended = await service.ended(f"GET {ROUTES.get(path, path)}")
    assert ended.outcome == "slow_client"


@pytest.mark.parametrize("path", PATHS[2:])
async def test_failures(service: Any, path: str) -> None:
    async with service.client() as client:
        service.source.begin(fail_after=0)
        assert (await client.get(path)).status_code == 500
        service.source.begin(fail_after=2)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path)


class Sockets:
    """Handlers of WebSockets, whose end a test can wait for."""

    def __init__(self, app: FastAPI) -> None:
        self.closed = asyncio.Event()
        self.text = "x"
        app.websocket("/echo")(self.echo)
        app.websocket("/feed")(self.feed)

    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            async for text in websocket.iter_text():
                await websocket.send_text(text)
        finally:
            self.closed.set()

    async def feed(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.send_text(self.text)
            await asyncio.Event().wait()
        finally:
            self.closed.set()


def connected(service: Service, path: str) -> Any:
    return connect(f"ws://127.0.0.1:{service.port}{path}", proxy=None)


async def test_a_websocket_echoes(service: Any) -> None:
    Sockets(service.app)
    async with connected(service, "/echo") as socket:
        for number in range(100):
            await socket.send(str(number))
            assert await socket.recv() == str(number)
    assert await service.outcome_of("WEBSOCKET /echo") == "client_abort"


@pytest.mark.parametrize("path", ["/echo", "/feed"])
async def test_a_handler_ends_when_its_client_leaves(service: Any, path: str) -> None:
    sockets = Sockets(service.app)
    async with connected(service, path) as socket:
        socket.transport.abort()
        await service.in_server(asyncio.wait_for(sockets.closed.wait(), PATIENCE))
    assert await service.outcome_of(f"WEBSOCKET {path}") == "client_abort"


@pytest.mark.parametrize("path", ["/echo", "/feed"])
async def test_a_draining_service_closes_websockets_with_1012(service: Any, path: str) -> None:
    sockets = Sockets(service.app)
    async with connected(service, path) as socket:
        if path == "/feed":
            await socket.recv()
        await service.call(service.app.state.kernel.drain.begin)
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        await service.in_server(asyncio.wait_for(sockets.closed.wait(), PATIENCE))
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert await service.outcome_of(f"WEBSOCKET {path}") == "drained"
