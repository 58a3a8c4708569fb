"""Parts of a body that are written at once, without a task and without the layers between.

The kernel asks for it with the head of a response (`streaming.push`): for who sends the same event
to thousands, the way through the layers costs as much as the writing.
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
        """Whether the client takes more, and more may come."""
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
    """Offer a writer behind the head, if that came as the kernel sent it.

    A middleware that makes another body makes another message, or says so in a header.
    """
    extensions = cycle.scope.get("extensions") or {}  # Others may have taken ours away.
    if not (cycle.chunked_encoding and message.get(DIRECT) and DIRECT in extensions):
        return
    if all(name.lower() != b"content-encoding" for name, _ in message.get("headers", ())):
        extensions[DIRECT]["writer"] = DirectWriter(cycle)
