"""A WebSocket client that sends commands, and one that sends raw frames."""

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from ..peer import PATIENCE, Peer

ROUTE = "WEBSOCKET /topics/{topics}/ws"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Conversation:
    """An open WebSocket; `greeting` is its first frame."""

    greeting: dict[str, Any]

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, kind: str, **members: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **members}))

    async def ask(self, kind: str, **members: Any) -> dict[str, Any]:
        """Send a command and return the next frame."""
        await self.send(kind, **members)
        return await self.next()

    async def next(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.next_text())
        return frame

    async def next_text(self) -> str | bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.socket.recv()

    async def data(self, count: int) -> list[Any]:
        """Return the data of the next frames, which must be events."""
        found = [await self.next() for _ in range(count)]
        assert {frame["type"] for frame in found} == {"event"}
        return [frame["data"] for frame in found]

    async def closed(self) -> int:
        """Skip frames until the server closes, and return the close code."""
        try:
            while True:
                await self.next_text()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


@asynccontextmanager
async def converse(
    service: Any, topics: str, query: str = "", **options: Any
) -> AsyncIterator[Conversation]:
    """Open a WebSocket on topics, and wait until they are followed."""
    url = f"ws://127.0.0.1:{service.port}/topics/{topics}/ws{query}"
    async with connect(url, proxy=None, **options) as socket:
        conversation = Conversation(socket)
        conversation.greeting = await conversation.next()
        yield conversation


async def refusal(service: Any, topics: str, **options: Any) -> tuple[Response, Any]:
    """Return the response that refuses the handshake, and its document."""
    try:
        async with converse(service, topics, **options):
            raise AssertionError("the handshake was not refused")
    except InvalidStatus as refused:
        return refused.response, json.loads(refused.response.body)


async def shake_hands(peer: Peer, topics: str) -> bytes:
    """Open a WebSocket on a raw connection, and wait until the topics are followed."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    upgrade = ["Upgrade: websocket", "Connection: Upgrade", key, "Sec-WebSocket-Version: 13"]
    await peer.get(f"/topics/{topics}/ws", *upgrade)
    await peer.read_head()
    return await peer.read_until(b"}")


def frame(opcode: int, payload: bytes = b"", *, last: bool = True) -> bytes:
    """Return a frame of a client, which is always masked (RFC 6455, section 5.2)."""
    mask = os.urandom(4)
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([(0x80 if last else 0) | opcode]) + length + mask + masked
