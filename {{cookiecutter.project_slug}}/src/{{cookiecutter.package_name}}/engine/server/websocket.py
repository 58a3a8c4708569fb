"""WebSockets: uvicorn's protocol with limits on peers that do not read, have left or never finish.

Source: RFC 6455, section 5.
"""

import logging
import time
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..kernel.exchange import SlowClient
from ..kernel.kernel import BOUNDS
from .parse_scheduler import ScheduledProtocol
from .sockets import reset

#: Fragments of one message. They may be empty, so their bytes do not bound their number.
MAX_FRAGMENTS = 1024
#: The number of pings and pongs that may arrive at once, in seconds of the allowed rate.
BURST = 10.0
#: The handshake as the library receives it; the request itself was parsed and checked before.
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)

#: uvicorn logs three lines for each connection, with the query; the kernel logs one without it.
logger = logging.getLogger("uvicorn.error.websocket")


class WebSocketConnection(ScheduledProtocol, WebSocketsSansIOProtocol):
    """uvicorn's protocol, with resets, and with bounds on the memory that a peer can occupy."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._application, self.app = self.app, self._run
        self.logger = self.conn.logger = logger
        #: The time up to which the allowance for pings and pongs is used.
        self._spent_until = 0.0

    def open(self, scope: Scope, early: bytes) -> None:
        """Start the application for a handshake, which may be larger than the library allows.

        `early` are bytes that the client sent before the response; they are parsed after it (RFC
        6455, section 4.1).
        """
        headers = scope["headers"]
        self.conn.receive_data(_HANDSHAKE % dict(headers)[b"sec-websocket-key"])
        self.handle_events()
        for name in ("path", "raw_path", "query_string", "headers"):
            self.scope[name] = scope[name]
        offers = [value for name, value in headers if name == b"sec-websocket-protocol"]
        protocols = b",".join(offers).decode("latin-1").split(",") if offers else []
        self.scope["subprotocols"] = [each.strip() for each in protocols]
        self.transport.resume_reading()
        if early:
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.drop()

    def parse(self, data: bytes) -> None:
        WebSocketsSansIOProtocol.data_received(self, data)

    def may_parse(self) -> bool:
        return self.handshake_complete and not self.read_paused

    def hold(self) -> None:
        self.transport.pause_reading()

    def release(self) -> None:
        if not self.read_paused:
            self.transport.resume_reading()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._application(scope, receive, send)
        except SlowClient:
            reset(self.transport)  # A plain close would wait until the client reads.
            raise

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            if self._unparsed:
                self.resume()
            else:
                self.transport.resume_reading()
        return message

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.accept":
            self.conn.max_message_size = message.get("max_size", self.config.ws_max_size)
        try:
            await super().send(message)
        except RuntimeError:
            if not self.close_sent:
                raise
            raise ClientDisconnected from None  # The protocol closed it: a bad frame, or no pong.
        if self.close_sent:
            # Also after a refusal of the handshake: uvicorn would log that the response is missing.
            self.handshake_complete = True
        if self._unparsed:
            self.hold()  # uvicorn still reads after a close, and would copy the held bytes.
        self.resume()  # The handshake may be complete now, so that frames can be parsed.

    def handle_ping(self) -> None:
        if self._is_excessive():
            return
        if self.writable.is_set():
            super().handle_ping()
        else:  # Do not buffer pongs for a client that does not read; the last is enough (5.5.3).
            self.conn.data_to_send()

    def handle_pong(self, event: Any) -> None:
        if not self._is_excessive():
            super().handle_pong(event)

    def handle_cont(self, event: Any) -> None:
        super().handle_cont(event)
        if len(self.frames) == MAX_FRAGMENTS:
            self._fail(1009, "too many fragments")

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # uvicorn would log it as an error, with a traceback.
                self._fail(1007, "not UTF-8")
                return
        super().send_receive_event_to_app()

    def _is_excessive(self) -> bool:
        """Count a ping or pong; return whether there were too many, which closes the connection."""
        rate, now = self.config.limits.max_control_frames, time.monotonic()
        self._spent_until = max(self._spent_until, now) + 1 / rate
        if self._spent_until > now + BURST and not self.close_sent:
            BOUNDS["server.max_control_frames"] += 1
            self._fail(1008, "too many control frames")
        return self.close_sent

    def _fail(self, code: int, reason: str) -> None:
        self.conn.fail(code, reason)
        self.handle_parser_exception()
        if not self.writable.is_set():
            reset(self.transport)  # The client would not read the reason either.

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        reset(self.transport)  # A plain close would wait until the client reads.
