"""Pull: a response that owns the iterator it sends.

Starlette's `StreamingResponse` sends the headers before it asks for the first item (an error is
then a broken 200), closes the source when the garbage collector gets to it, waits for ever on a
client that does not read, and never yields to the loop when the source does not. This one does
none of that. Return it from a path operation, with `response_class` set.
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

from ..kernel.deadlines import CLEANUP_SECONDS, send_within, while_connected
from ..kernel.exchange import Exchange, exchange_of
from ..kernel.kernel import kernel_of
from ..kernel.outcomes import StreamAborted
from ..kernel.problem import Problem
from ..kernel.threads import iterate_in_thread
from .codings import Coding
from .file_parts import FilePart

#: Parts of files go to the server without a copy, where it takes them and nobody encodes the body.
Chunk = bytes | FilePart
#: Encodes the description of a failure as the last bytes of a stream that has begun.
FailureRecord = Callable[[dict[str, Any]], bytes]


class ByteStream(Response):
    """Send bytes from an iterable, asynchronous or not, as they come.

    A `Problem` raised by the source before its first item is the answer. A failure after that
    aborts the connection, so that no client takes what it got for all there is; `failure_record`
    comes first where the format has a place for it. `background` runs whatever the outcome.

    `duplex`: the source reads the request body while it is sent. Until that has ended the source is
    the one reader of `receive`, and the one that sees the client leave. `coding` compresses; what
    fails is not finished in it either.
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
        self._takes_files = False
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

        async def receive_behind_body() -> Message:
            if self.duplex:
                await exchange.body_read()
            return await receive()

        try:
            if not (self.duplex or exchange.body_complete):
                await exchange.whole_body()
            async with while_connected(receive_behind_body):
                await self._stream(chunks, exchange, send)
        finally:
            await self._end(chunks)

    async def _end(self, chunks: AsyncIterator[Chunk]) -> None:
        try:
            # Here and now, not at the collector's leisure: it may hold a file or a connection.
            # And outside `while_connected`, whose cancellation would interrupt it.
            if isinstance(chunks, AsyncGenerator):
                async with asyncio.timeout(CLEANUP_SECONDS):
                    await chunks.aclose()
        finally:
            if self.background is not None:
                await self.background()

    async def _stream(self, chunks: AsyncIterator[Chunk], exchange: Exchange, send: Send) -> None:
        limit = exchange.limits.send_timeout
        first = await anext(chunks, b"")
        await send_within(send, self._head(), limit)
        self._takes_files = exchange.takes_files(self.headers.get("content-length"))
        end = b""
        if exchange.method != "HEAD":
            await self._send_body(first, chunks, exchange, send)
            if not exchange.body_complete:
                await exchange.whole_body()  # A source that did not want all of it.
            end = self.coding.end() if self.coding is not None else b""
        await send_within(send, {"type": "http.response.body", "body": end}, limit)

    async def _send_body(
        self, chunk: Chunk, chunks: AsyncIterator[Chunk], exchange: Exchange, send: Send
    ) -> None:
        while True:
            if chunk:
                await self._send_chunk(chunk, exchange, send)
            # A source that never waits would keep the loop from ever seeing a disconnect.
            await asyncio.sleep(0)
            if exchange.disconnected:
                raise ClientDisconnect
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except ClientDisconnect:
                raise  # Seen by a source that reads the request body.
            except Exception as error:
                if self.failure_record is not None:
                    document = kernel_of(exchange.scope).describe(Problem.of(error), exchange)
                    await self._send_chunk(self.failure_record(document), exchange, send)
                raise StreamAborted(exchange.request_id) from error

    async def _send_chunk(self, chunk: Chunk, exchange: Exchange, send: Send) -> None:
        if isinstance(chunk, FilePart):
            if self._takes_files:
                part = {"file": chunk.descriptor, "offset": chunk.start, "count": chunk.size}
                await send_within(exchange.send_file, part, exchange.limits.send_timeout)
                return
            chunk = await chunk.read(kernel_of(exchange.scope).threads)
        if self.coding is not None:
            chunk = await self.coding.encode(chunk)
        message = {"type": "http.response.body", "body": chunk, "more_body": True}
        await send_within(send, message, exchange.limits.send_timeout)

    def _chunks(self, exchange: Exchange) -> AsyncIterator[Chunk]:
        if isinstance(self.source, AsyncIterable):
            return aiter(self.source)
        return iterate_in_thread(kernel_of(exchange.scope).threads, self.source)

    def _head(self) -> dict[str, Any]:
        return {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
