"""Parts of a response body that are written without a task and without the layers in between.

A response requests this in the message with its headers (`streams.push`): if a server sends one
event to thousands of clients, the layers cost as much as the writing.
"""

from typing import Any

from starlette.types import Message

from ..streams.push import DIRECT


class DirectWriter:
    """Writes parts of a chunked body to the transport of one response."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle

    def ready(self) -> bool:
        """Return whether the client accepts more bytes and the response is still open."""
        cycle = self._cycle
        return not (cycle.flow.write_paused or cycle.disconnected or cycle.response_complete)

    def write(self, body: bytes) -> None:
        """Write a part, which is not empty (RFC 9112, section 7.1)."""
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))

    async def send(self, body: bytes) -> None:
        """Write a part as soon as the client takes more."""
        await self._cycle.flow.drain()
        if not self._cycle.disconnected:
            self.write(body)


def offer(cycle: Any, message: Message) -> None:
    """Offer a writer after the headers, if no middleware has changed how the body is sent.

    A middleware that sends another body sends another message, or adds a Content-Encoding.
    """
    extensions = cycle.scope.get("extensions") or {}  # A middleware may have removed them.
    if not (cycle.chunked_encoding and message.get(DIRECT) and DIRECT in extensions):
        return
    if all(name.lower() != b"content-encoding" for name, _ in message.get("headers", ())):
        extensions[DIRECT]["writer"] = DirectWriter(cycle)
