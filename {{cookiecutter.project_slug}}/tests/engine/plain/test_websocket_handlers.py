"""Handlers of WebSockets as in FastAPI's documentation, and as applications write them."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ..peer import PATIENCE
from ..service import Service


def connected(service: Service, path: str, **options: Any) -> Any:
    return connect(f"ws://127.0.0.1:{service.port}{path}", proxy=None, **options)


async def test_receiving_with_a_timeout(service: Any) -> None:
    app: FastAPI = service.app

    @app.websocket("/poll")
    async def poll(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            try:
                text = await asyncio.wait_for(websocket.receive_text(), 0.02)
            except TimeoutError:
                await websocket.send_text("tick")
            else:
                await websocket.send_text(f"got {text}")

    async with connected(service, "/poll") as socket:
        assert await socket.recv() == "tick"
        assert await socket.recv() == "tick"
        for number in range(20):
            await socket.send(str(number))
            while (text := await asyncio.wait_for(socket.recv(), PATIENCE)) == "tick":
                pass
            assert text == f"got {number}"
            await asyncio.sleep(0.019)


async def test_a_handler_may_clean_up_after_the_disconnect(service: Any) -> None:
    app: FastAPI = service.app
    done = asyncio.Event()

    @app.websocket("/save")
    async def save(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect:
            await asyncio.sleep(1.3)
            done.set()

    async with connected(service, "/save"):
        pass
    await service.in_server(asyncio.wait_for(done.wait(), PATIENCE))


async def test_a_handler_may_continue_after_it_has_closed(service: Any) -> None:
    app: FastAPI = service.app
    done = asyncio.Event()

    @app.websocket("/closing")
    async def closing(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(4000, "bye")
        await asyncio.sleep(1.3)
        done.set()

    async with connected(service, "/closing") as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "bye")
    await service.in_server(asyncio.wait_for(done.wait(), PATIENCE))
    assert await service.outcome_of("WEBSOCKET /closing") == "complete"


async def test_rejections(service: Any) -> None:
    app: FastAPI = service.app

    @app.websocket("/refused")
    async def refused(websocket: WebSocket) -> None:
        raise HTTPException(409, "No.")

    @app.websocket("/closed")
    async def closed(websocket: WebSocket) -> None:
        await websocket.close()

    @app.websocket("/bug")
    async def bug(websocket: WebSocket) -> None:
        raise ValueError

    for path, status in (("/refused", 409), ("/closed", 403), ("/bug", 500)):
        with pytest.raises(InvalidStatus) as answer:
            async with connected(service, path):
                pass
        assert answer.value.response.status_code == status, path


async def test_a_failure_closes_with_1011(service: Any) -> None:
    app: FastAPI = service.app

    @app.websocket("/late")
    async def late(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="b")
        await websocket.send_bytes(b"\0")
        raise ValueError

    async with connected(service, "/late", subprotocols=["a", "b"]) as socket:
        assert socket.subprotocol == "b"
        assert await socket.recv() == b"\0"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
    assert await service.outcome_of("WEBSOCKET /late") == "server_error"


async def test_an_endless_handler_does_not_starve_the_loop(service: Any) -> None:
    app: FastAPI = service.app

    @app.websocket("/endless")
    async def endless(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.send_text("x")

    async with connected(service, "/endless") as socket:
        await socket.recv()
        async with service.client() as client:
            task = asyncio.create_task(client.get("/health/live"))
            while not task.done():
                await socket.recv()
                await asyncio.sleep(0)
            assert task.result().status_code == 200
        socket.transport.abort()


async def test_many_senders_do_not_extend_the_deadline(service: Any) -> None:
    app: FastAPI = service.app

    @app.websocket("/burst")
    async def burst(websocket: WebSocket) -> None:
        await websocket.accept()
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(websocket.send_bytes(b"x" * 1_000_000))
                await asyncio.sleep(0.1)

    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get(
            "/burst",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        assert await service.outcome_of("WEBSOCKET /burst") == "slow_client"


async def test_a_receiver_in_another_task(service: Any) -> None:
    app: FastAPI = service.app

    @app.websocket("/two")
    async def two(websocket: WebSocket) -> None:
        await websocket.accept()
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def read() -> None:
            async for text in websocket.iter_text():
                await queue.put(text)

        reader = asyncio.create_task(read())
        try:
            while True:
                await websocket.send_text(await queue.get())
        finally:
            reader.cancel()

    async with connected(service, "/two") as socket:
        for number in range(1000):
            await socket.send(str(number))
        for number in range(1000):
            assert await socket.recv() == str(number)
