"""What uvicorn's WebSockets leave open: peers that do not read, or are gone, or never finish.

It leans on uvicorn's internals, like `connection`. Source: RFC 6455, section 5.
"""

import logging
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..streaming import SlowClient
from .connection import reset

#: Pieces of one message. They may be empty, and then cost more than is counted.
MAX_FRAGMENTS = 1024

#: uvicorn has three lines for each connection, with the query; the kernel has one, without.
logger = logging.getLogger("uvicorn.error.websocket")


class WebSocketConnection(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with resets, and bounds on what a peer can have it keep."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._application, self.app = self.app, self._run
        self.logger = self.conn.logger = logger

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._application(scope, receive, send)
        except SlowClient:
            reset(self.transport)  # A plain close would wait for it to take what is buffered.
            raise

    async def send(self, message: Any) -> None:
        try:
            await super().send(message)
        except RuntimeError:
            if not self.close_sent:
                raise
            raise ClientDisconnected from None  # Closed by uvicorn: a bad frame, or no pong.
        if self.close_sent:
            # Also by an answer in place of the handshake: uvicorn would log that there was none.
            self.handshake_complete = True

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:  # Who only asks would have us keep the answers; the last one is enough (5.5.3).
            self.conn.data_to_send()

    def handle_cont(self, event: Any) -> None:
        super().handle_cont(event)
        if len(self.frames) == MAX_FRAGMENTS:
            self.conn.fail(1009, "too many fragments")
            self.handle_parser_exception()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        reset(self.transport)  # Nobody takes what is buffered, and the close would wait for that.
