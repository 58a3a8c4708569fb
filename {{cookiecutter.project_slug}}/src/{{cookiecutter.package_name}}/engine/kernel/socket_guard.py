"""The guard of the owner's WebSockets: a send deadline, prompt cancellation, and a clean end.

A handler that only sends does not notice that its client has left, and one that only receives would
keep the server from stopping. Sources: ASGI 3.0 WebSocket specification; RFC 6455, section 7.4.1,
and the IANA registry of close codes (1012).
"""

import asyncio

from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from .exchange import ClientGone, Exchange, Outcome
from .guard import CLEANUP_SECONDS, Guard
from .kernel import Kernel

#: Seconds in which a handler may receive the disconnect by itself.
NOTICE = 1.0


class WebSocketGuard(Guard):
    """The `receive` and `send` of a WebSocket."""

    __slots__ = ("_received",)

    def __init__(self, kernel: Kernel, exchange: Exchange) -> None:
        super().__init__(kernel, exchange)
        #: The next message, which is received before the handler asks for it.
        self._received: asyncio.Future[Message] | None = None

    async def receive(self) -> Message:
        if self._received is None:
            return await self.exchange.receive()
        message = await self._received
        if message["type"] != "websocket.disconnect":
            self._watch()
        return message

    async def send(self, message: Message) -> None:
        if self.reason is not None:
            raise ClientGone
        self._busy_since = asyncio.get_running_loop().time()
        try:
            await self.exchange.send(message)
        finally:
            self._busy_since = None
        if message["type"] == "websocket.accept" and self.exchange.guarded:
            self.kernel.channels.add(self)
            self._watch()
            if self.kernel.drain.draining:
                self.drain(self.kernel.drain.retry_after())

    def _watch(self) -> None:
        self._received = asyncio.get_running_loop().create_future()
        self._watcher = asyncio.get_running_loop().create_task(self._receive_next(self._received))

    async def _receive_next(self, received: asyncio.Future[Message]) -> None:
        message = await self.exchange.receive()
        if not received.cancelled():
            received.set_result(message)
        if message["type"] == "websocket.disconnect":
            await asyncio.sleep(NOTICE)
            self.cut(WebSocketDisconnect(message.get("code", 1005)))

    def drain(self, retry_after: float) -> None:
        """Close with 1012 (service restart): clients reconnect, to another process."""
        self._task = asyncio.get_running_loop().create_task(self._say_goodbye())

    async def _say_goodbye(self) -> None:
        close = {"type": "websocket.close", "code": 1012, "reason": "Service restart"}
        async with asyncio.timeout(CLEANUP_SECONDS):
            await self.exchange.send(close)
        self.exchange.outcome = Outcome.DRAINED
        self.cut(WebSocketDisconnect(1012))
