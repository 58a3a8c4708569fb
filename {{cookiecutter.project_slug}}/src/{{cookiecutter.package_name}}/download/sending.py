"""Sending a stored file, or pieces of it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from starlette.types import Message, Receive, Scope, Send

from ..storage import FileRecord, Storage
from ..streaming import ByteStream, FilePart, exchange_of, send_within
from .ranges import ByteRange

#: So many bytes are one message: whatever the client does, it cannot be made shorter.
SMALL = 64 << 10


class FileStream(ByteStream):
    """Send pieces of a file: bytes as they are, a range from the file.

    `headers` has the Content-Length. A file that is gone is a Problem 404; one that turns out
    shorter than its record aborts the connection.
    """

    def __init__(
        self,
        storage: Storage,
        record: FileRecord,
        pieces: Sequence[bytes | ByteRange],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._parts = _parts(storage, record, pieces)
        super().__init__(self._parts, status_code, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if int(self.headers["content-length"]) > SMALL:
            await super().__call__(scope, receive, send)
            return
        exchange = exchange_of(scope)
        async with aclosing(self._parts) as parts:
            chunks = [
                await part.read(exchange.kernel.threads) if isinstance(part, FilePart) else part
                async for part in parts
            ]

        async def send_both(message: Message) -> None:
            await send(self._head())
            await send(message)

        message = {"type": "http.response.body", "body": b"".join(chunks)}
        await send_within(send_both, message, exchange.limits.send_timeout)


async def _parts(
    storage: Storage, record: FileRecord, pieces: Sequence[bytes | ByteRange]
) -> AsyncGenerator[bytes | FilePart]:
    async with storage.open(record) as file:
        yield b""  # It is there, so the head may be sent.
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                async with aclosing(file.parts(piece.start, piece.stop)) as parts:
                    async for part in parts:
                        yield part
