"""WebSockets of the owner: they end with their clients, and with the service."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ..peer import PATIENCE
from ..service import Service


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


@pytest.mark.plain("E4")
async def test_websockets_are_limited(serve: Any) -> None:
    service: Service = await serve(streaming={"max_streams": 1})
    Sockets(service.app)
    async with connected(service, "/echo") as socket:
        await socket.send("x")
        assert await socket.recv() == "x"
        with pytest.raises(InvalidStatus) as refused:
            async with connected(service, "/echo"):
                pass
    assert refused.value.response.status_code == 503
    for outcome in ("rejected", "client_abort"):
        assert await service.outcome_of("WEBSOCKET /echo") == outcome
    assert not service.app.state.kernel.streams
