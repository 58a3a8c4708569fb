"""The ASGI interface of one request: that of uvicorn, with additions.

The additions are aborts, interim responses, the framing of HTTP/1.0, and bodies and files without
copies.
Applications find the extensions in the scope (ASGI 3.0, "Extensions").
"""

from importlib import import_module
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from ..kernel.exchange import HANG_UP, SlowClient
from .sockets import reset


def optional(name: str) -> Any:
    """Return a module of this package that only some projects have, or None."""
    path = f"{__package__}.{name}"
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        return None


sendfile = optional("sendfile")  # Comes with downloads.
direct = optional("direct")  # Comes with real-time.


class RequestInterface:
    """Calls the application for one request of a connection.

    `cycle` is uvicorn's state of the request, and `send_timeout` is in seconds.
    """

    def __init__(self, app: Any, cycle: Any, send_timeout: float) -> None:
        self.app = app
        self.cycle = cycle
        self.send_timeout = send_timeout
        #: Whether the body ends with the connection (RFC 9112, section 6.3): HTTP/1.0 has no
        #: chunks, but uvicorn would send them.
        self.is_close_delimited = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offered: dict[str, dict[str, Any]] = {HANG_UP: {}}
        if sendfile is not None:
            offered |= sendfile.extensions(scope["scheme"])
        if scope["http_version"] != "1.0":
            offered["http.response.informational"] = {}
            if direct is not None:
                offered[direct.DIRECT] = {}
        scope["extensions"] = offered
        try:
            await self.app(scope, self.receive, self.send)
        except BaseException as error:
            # A client that does not read never receives the buffered bytes, and a plain close looks
            # like the end of a body without a length: in both cases only a reset shows the abort.
            is_cut = self.is_close_delimited and self.cycle.response_started
            if is_cut or isinstance(error, SlowClient):
                reset(self.cycle.transport)
            raise

    async def receive(self) -> Message:
        """Return the next part of the body without the two copies that uvicorn makes.

        The bytes that a client sent before it left are returned before the disconnect.
        """
        cycle = self.cycle
        if cycle.waiting_for_100_continue and not cycle.transport.is_closing():
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        if not (cycle.chunks or cycle.disconnected or cycle.response_complete):
            cycle.flow.resume_reading()
            await cycle.message_event.wait()
        cycle.message_event.clear()
        chunks, cycle.chunks, cycle.buffered = cycle.chunks, [], 0
        cycle.flow.resume_reading()
        if cycle.response_complete or (cycle.disconnected and not chunks):
            return {"type": "http.disconnect"}
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return {"type": "http.request", "body": body, "more_body": cycle.more_body}

    async def send(self, message: Message) -> None:
        cycle = self.cycle
        match message["type"]:
            case "http.response.body":
                if self.is_close_delimited:
                    cycle.expected_content_length = len(message.get("body", b""))
                await cycle.send(message)
            case "http.response.start":
                await self._start(message)
            case "http.response.zerocopysend" | "http.response.pathsend" if sendfile is not None:
                await sendfile.send(cycle, message, self.send_timeout)
            case "http.response.informational":  # RFC 9110, section 15.2.
                if not cycle.response_started and not cycle.disconnected:
                    cycle.transport.write(_interim(message))
            case "http.connection.close":
                # Otherwise uvicorn sends a 500 for an application that returns without a response.
                cycle.disconnected = True
                cycle.transport.abort()
            case _:
                await cycle.send(message)

    async def _start(self, message: Message) -> None:
        cycle = self.cycle
        if cycle.scope["http_version"] == "1.0":
            names = {name.lower() for name, _ in message.get("headers", ())}
            self.is_close_delimited = b"content-length" not in names
            if self.is_close_delimited:
                cycle.chunked_encoding = False
        await cycle.send(message)
        if sendfile is not None:
            sendfile.announce(cycle)
        if direct is not None:
            direct.offer(cycle, message)


def _interim(message: Message) -> bytes:
    phrase = {104: "Upload Resumption Supported"}.get(message["status"], "")
    lines = [b"HTTP/1.1 %d %s" % (message["status"], phrase.encode())]
    lines += [name + b": " + value for name, value in message["headers"]]
    return b"\r\n".join([*lines, b"", b""])
