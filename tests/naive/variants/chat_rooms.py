"""Chat over web sockets."""

import asyncio
import logging
from collections import defaultdict
from contextlib import suppress
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Query, WebSocket, WebSocketDisconnect

from streaming_kit import DRAINING

log = logging.getLogger(__name__)
router = APIRouter(prefix="/chat")
SEND_DEADLINE = 5.0


class Room:
    def __init__(self) -> None:
        self.members: list[WebSocket] = []
        self.outboxes: dict[WebSocket, asyncio.Queue] = {}

    async def join(self, socket: WebSocket) -> None:
        await socket.accept()
        self.members.append(socket)  # trap: R9

    async def broadcast(self, text: str) -> None:
        for member in self.members:
            await member.send_text(text)

    async def fan_out(self, text: str) -> None:
        await asyncio.gather(*[m.send_json({"text": text}) for m in self.members])

    def outbox(self, socket: WebSocket) -> asyncio.Queue:
        return self.outboxes.setdefault(socket, asyncio.Queue())  # trap: R8, R9


class BoundedRoom:
    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.boxes: dict[WebSocket, asyncio.Queue[str]] = {}

    async def __call__(self, socket: WebSocket) -> "BoundedRoom":
        return self

    def enter(self, socket: WebSocket) -> asyncio.Queue[str]:
        return self.boxes.setdefault(socket, asyncio.Queue(maxsize=self.capacity))

    def leave(self, socket: WebSocket) -> None:
        self.boxes.pop(socket, None)

    def broadcast(self, text: str) -> None:
        for socket, box in list(self.boxes.items()):
            try:
                box.put_nowait(text)
            except asyncio.QueueFull:
                self.leave(socket)

    async def serve(self, socket: WebSocket) -> None:
        box = self.enter(socket)
        while socket in self.boxes and not DRAINING.is_set():
            try:
                text = await asyncio.wait_for(box.get(), timeout=2)
            except TimeoutError:
                continue
            with anyio.fail_after(SEND_DEADLINE):
                await socket.send_text(text)


rooms: defaultdict[str, Room] = defaultdict(Room)  # missed: R9
bounded = BoundedRoom()


@router.websocket("/{name}")
async def chat(socket: WebSocket, name: str, token: Annotated[str, Query()]):
    room = rooms[name]
    await room.join(socket)
    log.info("joined %s with %s", socket.url, socket.client)  # trap: E8
    try:
        while True:
            await room.broadcast(f"{name}: {await socket.receive_text()}")
    except WebSocketDisconnect:
        log.info("left %s", name)
    except Exception as exc:
        await socket.close(1011, reason=str(exc))  # trap: E12


@router.websocket("/{name}/queued")
async def queued_chat(socket: WebSocket, name: str):
    await socket.accept()
    box = rooms[name].outbox(socket)
    with suppress(WebSocketDisconnect):
        while True:
            await socket.send_text(await box.get())


@router.websocket("/v2/main")
async def bounded_chat(socket: WebSocket, room: Annotated[BoundedRoom, Depends(bounded)]):
    await socket.accept()

    async def read() -> None:
        async for text in socket.iter_text():
            room.broadcast(text[:500])
        group.cancel_scope.cancel()

    async def write() -> None:
        await room.serve(socket)
        group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(write)
    except* WebSocketDisconnect:
        log.info("a client left")
    finally:
        room.leave(socket)
        with anyio.move_on_after(1, shield=True), suppress(RuntimeError):
            await socket.close(1001)
