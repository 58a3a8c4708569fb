"""Pull: a response that owns the iterator it sends.

Starlette's `StreamingResponse` sends the headers before it requests the first item, so an early
error truncates a response with status 200. It leaves the source to the garbage collector, waits
forever for a client that does not read, and never yields to the event loop if the source does not.
`ByteStream` avoids all of that. Return it from a path operation, with `response_class` set.
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
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..kernel.exchange import Exchange, StreamAborted, exchange_of
from ..kernel.kernel import kernel_of
from ..kernel.problem import Problem
from ..kernel.threads import iterate_in_thread
from ..kernel.work import CLEANUP_SECONDS
from .codings import Coding
from .deadlines import send_within, while_connected
from .file_parts import ZERO_COPY, FilePart

#: Parts of files are sent without a copy, if the server supports it and the body is not encoded.
Chunk = bytes | FilePart
#: Encodes the document of a failure as the last bytes of a stream.
FailureRecord = Callable[[dict[str, Any]], bytes]


class ByteStream(Response):
    """Send bytes from a synchronous or asynchronous iterable as it yields them.

    A `Problem` raised by the source before its first item becomes the response. A later failure
    aborts the connection, so that a client detects a truncated body; `failure_record` is sent
    first, in formats that have one. `background` runs after every outcome.

    `duplex`: the source reads the request body while the response is sent. Until the body ends,
    only the source calls `receive`, so the source has to detect a disconnect. `coding` compresses
    the body.
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
        exchange.duplex, exchange.guarded = self.duplex, False
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
            # Close the source now, not at garbage collection: it may hold a file or a connection.
            # This is outside of `while_connected`, which would cancel the cleanup.
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
        # Bypass the middleware, which does not support this message.
        await send_within(exchange.send, message, exchange.limits.send_timeout)
        exchange.bytes_out += part.size
        exchange.remaining = (exchange.remaining or 0) - part.size

    def _chunks(self, exchange: Exchange) -> AsyncIterator[Chunk]:
        if isinstance(self.source, AsyncIterable):
            return aiter(self.source)
        return iterate_in_thread(kernel_of(exchange.scope).threads, self.source)

    def _start(self) -> Message:
        start = {"type": "http.response.start", "status": self.status_code}
        return {**start, "headers": self.raw_headers}


def _sends_files(scope: Scope, length: str | None) -> bool:
    """Whether the server sends parts of files, and has sent this Content-Length.

    Otherwise a middleware has held back the headers, or has replaced the body.
    """
    offer = (scope.get("extensions") or {}).get(ZERO_COPY) or {}
    return str(offer.get("announced")) == length
