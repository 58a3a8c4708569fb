"""Files from the page cache to the socket without a copy: `os.sendfile` under uvicorn's transport.

This implements the ASGI extensions `http.response.zerocopysend` (a part of an open file) and
`http.response.pathsend` (a whole file) for plain HTTP on Linux, with uvloop and with asyncio: their
transports have the same methods.
"""

import asyncio
import os
import sys
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Message

from ..streams.deadlines import send_within
from ..streams.file_parts import ZERO_COPY as PART, FilePart

ZERO_COPY: bool = sys.platform == "linux" and hasattr(os, "sendfile")
WHOLE = "http.response.pathsend"


def extensions(scheme: str) -> dict[str, dict[str, Any]]:
    """Return the extensions that a connection offers; with TLS the bytes must be encrypted."""
    return {PART: {}, WHOLE: {}} if ZERO_COPY and scheme == "http" else {}


def announce(cycle: Any) -> None:
    """Store the sent Content-Length in the scope: a middleware may have changed it."""
    offer = cycle.scope["extensions"].get(PART)
    if offer is not None and cycle.chunked_encoding is False:
        offer["announced"] = cycle.expected_content_length


async def send(cycle: Any, message: Message, send_timeout: float) -> None:
    """Send the bytes that a message of one of the extensions refers to.

    Raises ClientDisconnect when the client leaves, and SlowClient when it does not accept a part of
    a whole file within `send_timeout` seconds; the kernel limits the time of other parts.
    """
    if message["type"] == WHOLE:
        await _send_whole(cycle, message["path"], send_timeout)
    else:
        await _send_part(cycle, message)
    if not message.get("more_body", False):
        await cycle.send({"type": "http.response.body"})


async def _send_whole(cycle: Any, path: str, send_timeout: float) -> None:
    async def send_turn(message: Message) -> None:
        await _send_part(cycle, message)

    descriptor = os.open(path, os.O_RDONLY)
    try:
        for turn in FilePart(descriptor, 0, os.fstat(descriptor).st_size).turns():
            part = {"file": descriptor, "offset": turn.start, "count": turn.size}
            await send_within(send_turn, part, send_timeout)
            await asyncio.sleep(0)  # Let other tasks run.
    finally:
        os.close(descriptor)


async def _send_part(cycle: Any, message: Message) -> None:
    """Send `count` bytes of an open `file` from `offset`, or the rest of it."""
    file = message["file"]
    descriptor: int = file if isinstance(file, int) else file.fileno()
    start = message.get("offset") or 0
    count = message.get("count")
    if count is None:
        count = os.fstat(descriptor).st_size - start
    await _send(cycle, FilePart(descriptor, start, count))


async def _send(cycle: Any, part: FilePart) -> None:
    if not cycle.response_started or cycle.chunked_encoding:
        raise RuntimeError("A file can be sent only after headers with a Content-Length")
    if cycle.scope["method"] == "HEAD":
        return
    if part.size > cycle.expected_content_length:
        raise RuntimeError("Response content longer than Content-Length")
    await _flush(cycle)
    # A loop refuses to watch the descriptor of a transport, but accepts a duplicate.
    connection = os.dup(cycle.transport.get_extra_info("socket").fileno())
    try:
        for turn in part.turns():
            await turn.fetch(None)
            await _send_turn(cycle, connection, turn)
            if turn.size < part.size:
                await asyncio.sleep(0)  # Let other tasks run.
    finally:
        os.close(connection)


async def _flush(cycle: Any) -> None:
    """Wait until the transport has written its buffer, because the file must follow it."""
    _check(cycle)
    transport = cycle.transport
    if transport.get_write_buffer_size():
        transport.set_write_buffer_limits(0)  # This pauses the protocol until the buffer is empty.
        try:
            await cycle.flow.drain()
        finally:
            if not transport.is_closing():
                transport.set_write_buffer_limits()
        _check(cycle)


async def _send_turn(cycle: Any, connection: int, turn: FilePart) -> None:
    if sys.platform == "win32":
        raise NotImplementedError  # Connections do not offer the extensions there.
    sent = 0
    while sent < turn.size:
        _check(cycle)
        try:
            count = os.sendfile(connection, turn.descriptor, turn.start + sent, turn.size - sent)
        except BlockingIOError:
            await _writable(connection)
        except (ConnectionError, TimeoutError):
            cycle.disconnected = True  # Otherwise uvicorn logs an error.
            cycle.transport.abort()
            raise ClientDisconnect from None
        else:
            if not count:
                raise EOFError("a file became shorter while it was sent")
            sent += count
            cycle.expected_content_length -= count


async def _writable(connection: int) -> None:
    loop = asyncio.get_running_loop()
    writable = loop.create_future()

    def wake() -> None:
        if not writable.done():
            writable.set_result(None)

    loop.add_writer(connection, wake)
    try:
        await writable
    finally:
        loop.remove_writer(connection)


def _check(cycle: Any) -> None:
    if cycle.disconnected or cycle.transport.is_closing():
        cycle.disconnected = True
        raise ClientDisconnect
