"""Sending a stored file, or pieces of it; or letting nginx send what the service has decided on.

With `APP_DOWNLOAD__OFFLOAD=x-accel-redirect` nginx sends the file that X-Accel-Redirect names, and
looks at the request's Range and conditions once more. What it might decide differently, the service
sends itself.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from fastapi import Request, Response
from starlette.types import Message, Receive, Scope, Send

from ..kernel.exchange import exchange_of
from ..kernel.fields import joined
from ..kernel.kernel import kernel_of
from ..storage.interface import Storage
from ..storage.local import LocalStorage
from ..storage.records import FileRecord
from ..streams.file_parts import FilePart
from ..streams.pull import ByteStream, send_within
from .ranges import ByteRange

#: So many bytes are one message: whatever the client does, it cannot be made shorter.
SMALL = 64 << 10
#: One range as nginx reads it; of numbers with more digits it says that they lie outside the file.
_RANGE = re.compile(r"(?i)bytes=(\d{1,18}-\d{0,18}|-\d{1,18})", re.ASCII)
#: What nginx makes itself.
_FRAMING = {"accept-ranges", "content-length", "content-range"}


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
        threads = kernel_of(scope).threads
        async with aclosing(self._parts) as parts:
            chunks = [
                await part.read(threads) if isinstance(part, FilePart) else part
                async for part in parts
            ]

        async def send_both(message: Message) -> None:
            await send(self._start())
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


def offload(
    request: Request, storage: Storage, record: FileRecord, headers: Mapping[str, str]
) -> Response | None:
    """Return the answer to a GET with which nginx sends the file, or the range that was selected.

    `headers` are those of the answer that the service would send itself. None when it should.
    """
    if request.app.state.settings.download.offload != "x-accel-redirect":
        return None
    if not isinstance(storage, LocalStorage) or not _decides_alike(request, record, headers):
        return None
    kept = {name: value for name, value in headers.items() if name.lower() not in _FRAMING}
    path = storage.path(record.id).relative_to(storage.root).as_posix()
    return Response(headers={**kept, "X-Accel-Redirect": f"/_{path}"})


def _decides_alike(request: Request, record: FileRecord, headers: Mapping[str, str]) -> bool:
    asked = request.headers
    if request.method != "GET" or "if-match" in asked or "if-unmodified-since" in asked:
        return False
    if "range" not in asked:
        return True
    one = _RANGE.fullmatch(joined(asked, "range"))
    applies = asked.get("if-range", record.etag) == record.etag
    return one is not None and applies and "Content-Range" in headers
