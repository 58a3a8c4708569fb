"""WebSockets of the owner, in every project: they end with their clients, and with the service."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from {{cookiecutter.package_name}}.engine.kernel.kernel import BOUNDS
from {{cookiecutter.package_name}}.settings import Settings

from ..peer import PATIENCE
from ..service import Service

HANDSHAKE = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
]


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


@pytest.mark.bound("6.6")
async def test_a_message_is_as_large_as_a_body(service: Any) -> None:
    Sockets(service.app)
    largest = "x" * (1 << 20)
    async with connected(service, "/echo") as socket:
        await socket.send(largest)
        assert await socket.recv() == largest
        await socket.send(largest + "x")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    assert await service.outcome_of("WEBSOCKET /echo") == "rejected"


@pytest.mark.bound("6.6")
async def test_the_size_of_messages_is_a_setting(serve: Any) -> None:
    service: Service = await serve(streaming={"max_body": 1000})
    Sockets(service.app)
    async with connected(service, "/echo") as socket:
        await socket.send("x" * 1000)
        assert await socket.recv() == "x" * 1000
        await socket.send([b"x" * 600, b"x" * 401])
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


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


@pytest.mark.parametrize("path", ["/nothing", "/health/live", "/docs"])
async def test_a_path_without_a_websocket_opens_none(service: Any, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(service, path):
            pass
    assert refused.value.response.status_code == 403
    assert await service.outcome_of("WEBSOCKET (none)") == "rejected"


async def test_a_plain_request_is_told_to_upgrade(service: Any) -> None:
    Sockets(service.app)
    async with service.client() as client:
        assert (await client.get("/echo")).status_code == 426


async def test_a_client_that_answers_no_ping_is_given_up(serve: Any) -> None:
    limits = {"heartbeat": 0.05, "send_timeout": 0.1}
    names = {"streaming", "realtime"} & set(Settings.model_fields)
    service: Service = await serve(**dict.fromkeys(names, limits))
    Sockets(service.app)
    async with service.raw_connection() as peer:
        await peer.get("/echo", *HANDSHAKE)
        await peer.read_head()
        assert await service.outcome_of("WEBSOCKET /echo") == "client_abort"


async def test_a_client_that_only_pings_is_closed(service: Any) -> None:
    Sockets(service.app)
    before = BOUNDS["server.max_control_frames"]
    async with service.raw_connection() as peer:
        await peer.get("/echo", *HANDSHAKE)
        await peer.read_head()
        await peer.send(b"\x89\x80mask" * 2000)
        assert await service.outcome_of("WEBSOCKET /echo") == "rejected"
    assert BOUNDS["server.max_control_frames"] == before + 1


async def test_a_websocket_is_logged_and_counted(
    service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Sockets(service.app)
    async with connected(service, "/echo") as socket:
        await socket.send("four")
        await socket.recv()
    await service.ended("WEBSOCKET /echo")
    async with service.client() as client:
        metrics = (await client.get("/metrics")).text

    labels = 'method="WEBSOCKET",outcome="client_abort",route="/echo",status="101"'
    assert "http_requests_total{" + labels + "} 1.0" in metrics
    assert "WEBSOCKET" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
