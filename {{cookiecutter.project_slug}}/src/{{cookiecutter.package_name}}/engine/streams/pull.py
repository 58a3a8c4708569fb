"""Pull: a response that owns the iterator it sends.

Starlette's `StreamingResponse` sends the headers before it requests the first item, so an early
error breaks a 200. It leaves the source to the garbage collector, waits forever for a client that
does not read, and never yields to the event loop if the source does not. This class does none of
that. Return it from a path operation, with `response_class` set.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
)
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, TypeVar

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..kernel.body import Deadline
from ..kernel.exchange import Exchange, SlowClient, StreamAborted, exchange_of
from ..kernel.kernel import kernel_of
from ..kernel.problem import Problem
from ..kernel.threads import in_thread
from .codings import Coding
from .file_parts import ZERO_COPY, FilePart

T = TypeVar("T")
#: Seconds that a source may take to clean up after its client has left.
CLEANUP_SECONDS = 5.0
#: Parts of files are sent without a copy, if the server supports it and the body is not encoded.
Chunk = bytes | FilePart
#: Encodes the document of a failure as the last bytes of a stream.
FailureRecord = Callable[[dict[str, Any]], bytes]


class ByteStream(Response):
    """Send bytes from an iterable, asynchronous or not, as they come.

    A `Problem` raised by the source before its first item becomes the response. A later failure
    aborts the connection, so that no client takes a part for the whole; `failure_record` is sent
    first, in formats that have one. `background` runs after every outcome.

    `duplex`: the source reads the request body while the response is sent. Until the body ends only
    the source calls `receive`, and detects that the client has left. `coding` compresses the body.
    """

    media_type = "application/octet-stream"

    def __init__(
        self,
        source: AsyncIterable[Chunk] | Iterable[Chunk],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        failure_record: FailureRecord | None = None,
        duplex: bool = False,
        coding: Coding | None = None,
    ) -> None:
        self.source = source
        self.failure_record = failure_record
        self.duplex = duplex
        self.coding = coding
        self._sends_files = False
        self.status_code = status_code
        self.media_type = media_type or self.media_type
        self.background = background
        self.init_headers(headers)
        if coding is not None:
            self.headers["Content-Encoding"] = coding.name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.duplex = self.duplex
        chunks = self._chunks(exchange)

        async def receive_after_body() -> Message:
            if self.duplex:
                await exchange.body_read()
            return await receive()

        try:
            if not (self.duplex or exchange.body_complete):
                await exchange.whole_body()
            async with while_connected(receive_after_body):
                await self._stream(chunks, exchange, send)
        finally:
            await self._end(chunks)

    async def _end(self, chunks: AsyncIterator[Chunk]) -> None:
        try:
            # Now, not at garbage collection: the source may hold a file or a connection. Outside of
            # `while_connected`, which would cancel the cleanup.
            if isinstance(chunks, AsyncGenerator):
                async with asyncio.timeout(CLEANUP_SECONDS):
                    await chunks.aclose()
        finally:
            if self.background is not None:
                await self.background()

    async def _stream(self, chunks: AsyncIterator[Chunk], exchange: Exchange, send: Send) -> None:
        limit = exchange.limits.send_timeout
        first = await anext(chunks, b"")
        await send_within(send, self._start(), limit)
        self._sends_files = _sends_files(exchange.scope, self.headers.get("content-length"))
        end = b""
        if exchange.method != "HEAD":
            await self._send_body(first, chunks, exchange, send)
            if not exchange.body_complete:
                await exchange.whole_body()  # The source has not read all of it.
            end = self.coding.end() if self.coding is not None else b""
        await send_within(send, {"type": "http.response.body", "body": end}, limit)

    async def _send_body(
        self, chunk: Chunk, chunks: AsyncIterator[Chunk], exchange: Exchange, send: Send
    ) -> None:
        while True:
            if chunk:
                await self._send_chunk(chunk, exchange, send)
            # Without this a source that never waits would hide the disconnect from the loop.
            await asyncio.sleep(0)
            if exchange.disconnected:
                raise ClientDisconnect
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except ClientDisconnect:
                raise  # From a source that reads the request body.
            except Exception as error:
                if self.failure_record is not None:
                    document = kernel_of(exchange.scope).describe(Problem.of(error), exchange)
                    await self._send_chunk(self.failure_record(document), exchange, send)
                raise StreamAborted(exchange.request_id) from error

    async def _send_chunk(self, chunk: Chunk, exchange: Exchange, send: Send) -> None:
        if isinstance(chunk, FilePart):
            if self._sends_files:
                await self._send_part(chunk, exchange)
                return
            chunk = await chunk.read(kernel_of(exchange.scope).threads)
        if self.coding is not None:
            chunk = await self.coding.encode(chunk)
        message = {"type": "http.response.body", "body": chunk, "more_body": True}
        await send_within(send, message, exchange.limits.send_timeout)

    async def _send_part(self, part: FilePart, exchange: Exchange) -> None:
        where = {"file": part.descriptor, "offset": part.start, "count": part.size}
        message = {"type": ZERO_COPY, **where, "more_body": True}
        # Past every middleware, which do not know this message.
        await send_within(exchange.send, message, exchange.limits.send_timeout)
        exchange.bytes_out += part.size
        exchange.remaining = (exchange.remaining or 0) - part.size

    def _chunks(self, exchange: Exchange) -> AsyncIterator[Chunk]:
        if isinstance(self.source, AsyncIterable):
            return aiter(self.source)
        return _iterate_in_thread(kernel_of(exchange.scope).threads, self.source)

    def _start(self) -> Message:
        start = {"type": "http.response.start", "status": self.status_code}
        return {**start, "headers": self.raw_headers}


def _sends_files(scope: Scope, length: str | None) -> bool:
    """Whether the server sends parts of files, and has sent this Content-Length.

    Otherwise a middleware holds the headers back, or has announced another body.
    """
    offer = (scope.get("extensions") or {}).get(ZERO_COPY) or {}
    return str(offer.get("announced")) == length


async def _iterate_in_thread(executor: Executor, source: Iterable[T]) -> AsyncGenerator[T]:
    """Iterate a synchronous source in a thread, and close it there."""
    iterator = iter(source)

    def take_one() -> list[T]:
        return list(islice(iterator, 1))

    try:
        while items := await in_thread(executor, take_one):
            yield items[0]
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            await in_thread(executor, close)


# A timeout held across a `yield` would cancel the task that runs the generator at that moment. So
# the driver of a source has the timeouts, one await at a time; generators have none.


async def send_within(send: Send, message: Message, limit: float) -> None:
    """Send a message; raise SlowClient if the client does not accept it in `limit` seconds."""
    deadline = Deadline()
    try:
        with deadline.within(limit):
            await send(message)
    except TimeoutError:
        raise SlowClient(limit) from None
    finally:
        deadline.end()


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncGenerator[None]:
    """Run the block until the client leaves; then cancel it and raise ClientDisconnect.

    The block is cancelled once, not at every further await: a `finally` that awaits runs to its
    end, for at most CLEANUP_SECONDS. Only for requests whose body has been read, because this calls
    `receive`: no ASGI server raises from `send` after a disconnect.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as cleanup, asyncio.timeout(None) as connected:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                connected.reschedule(loop.time())
                cleanup.reschedule(loop.time() + CLEANUP_SECONDS)

            watcher = loop.create_task(watch())
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError:
        if connected.expired() or cleanup.expired():
            raise ClientDisconnect from None
        raise
