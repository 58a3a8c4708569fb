"""The guard of the owner's WebSockets: a send deadline, prompt cancellation, and a clean end.

A handler that only sends does not notice that its client has left, and one that only receives would
keep the server from stopping. Sources: ASGI 3.0 WebSocket specification; RFC 6455, section 7.4.1,
and the IANA registry of close codes (1012).
"""

import asyncio
from contextlib import suppress

from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from .exchange import Outcome
from .problem import Problem
from .work import CLEANUP_SECONDS, TURN, Guard

#: Seconds in which a handler may receive the disconnect by itself; it may then clean up for
#: CLEANUP_SECONDS.
NOTICE = 1.0


class WebSocketGuard(Guard):
    """The `receive` and `send` of a WebSocket."""

    #: The next message, which is received before the handler asks for it.
    _received: asyncio.Future[Message] | None = None

    async def receive(self) -> Message:
        if self._received is None:
            return await self.exchange.receive()
        # The handler may stop waiting, for example after a timeout, and receive again.
        message = await asyncio.shield(self._received)
        if message["type"] == "websocket.disconnect":
            self._received = None
        else:
            self._watch()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.accept" and self.exchange.guarded:
            self.admit()
            # An addition to ASGI, which `server.websocket` reads.
            message = {"max_size": self.exchange.limits.max_body, **message}
        await self._send_watched(message)
        if not self.exchange.guarded:
            return
        if asyncio.get_running_loop().time() - self._turn > TURN:
            await self._take_turn()
        if message["type"] == "websocket.close":
            self._received = None
            self.close()  # The handler may continue to work.
        elif message["type"] == "websocket.accept":
            self.kernel.channels.add(self)
            self._watch()
            if self.kernel.drain.draining:
                self.drain(self.kernel.drain.retry_after())

    def _watch(self) -> None:
        self._received = asyncio.get_running_loop().create_future()
        self._watcher = asyncio.get_running_loop().create_task(self._receive_next(self._received))

    async def _receive_next(self, received: asyncio.Future[Message]) -> None:
        message = await self.exchange.receive()
        received.set_result(message)
        if message["type"] == "websocket.disconnect":
            await asyncio.sleep(NOTICE)
            if self._received is None:
                await asyncio.sleep(CLEANUP_SECONDS)
            self.cut(WebSocketDisconnect(message.get("code", 1005)))

    def drain(self, retry_after: float) -> None:
        """Close with 1012 (service restart): clients reconnect, to another process."""
        self._close_with(1012, "Service restart", Outcome.DRAINED)

    def expire(self, reason: Problem, grace: float) -> None:
        """Close with 4401, of the range for applications: the client must authenticate again."""
        if self.exchange.channel is not None:
            super().expire(reason, grace)
        else:
            self._close_with(4401, "Authenticate again", Outcome.REJECTED)

    def _close_with(self, code: int, reason: str, outcome: Outcome) -> None:
        goodbye = self._say_goodbye(code, reason, outcome)
        self._task = asyncio.get_running_loop().create_task(goodbye)

    async def report(self, error: BaseException) -> None:
        """Close with 1011 (internal error)."""
        if self.exchange.status == 101 and not self.exchange.response_complete:
            await self._send_close(1011, "Internal error")

    async def _send_close(self, code: int, reason: str) -> None:
        with suppress(OSError):  # Also TimeoutError.
            async with asyncio.timeout(CLEANUP_SECONDS):
                await self.exchange.send(
                    {"type": "websocket.close", "code": code, "reason": reason}
                )

    async def _say_goodbye(self, code: int, reason: str, outcome: Outcome) -> None:
        await self._send_close(code, reason)
        self.exchange.outcome = outcome
        self.cut(WebSocketDisconnect(code))
