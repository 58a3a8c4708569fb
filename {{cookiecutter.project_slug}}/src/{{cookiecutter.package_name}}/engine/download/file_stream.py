"""Sending a stored file or ranges of it, by the service, by nginx or by S3.

With `APP_DOWNLOAD__OFFLOAD=x-accel-redirect` nginx sends the file that X-Accel-Redirect names, with
`presigned` S3 does, at a URL to which the client is redirected. They evaluate the request's Range
and conditions again, so the service itself sends the responses for which the result might differ.
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
from ..streams.deadlines import send_within
from ..streams.file_parts import FilePart
from ..streams.pull import ByteStream
from .ranges import ByteRange

#: Bytes up to which a body is sent as one message.
SMALL = 64 << 10
#: One range as nginx parses it; it rejects numbers with more digits.
_RANGE = re.compile(r"(?i)bytes=(\d{1,18}-\d{0,18}|-\d{1,18})", re.ASCII)
#: Fields that S3 would evaluate with an entity tag and a date of its own, or ignore.
_OURS = {"if-match", "if-none-match", "if-range", "if-modified-since", "want-repr-digest"}
#: A redirection is only valid for this client, and for a short time.
_REDIRECT = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
#: Headers that nginx sets itself.
_FRAMING = {"accept-ranges", "content-length", "content-range"}


class FileStream(ByteStream):
    """Send pieces: bytes as they are, and ranges of a file.

    `headers` must have the Content-Length. Raises Problem 404 for a missing file; a file that is
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
        exchange.guarded = False  # It is sent at once, within a deadline of its own.
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
        held = b""  # Nothing is sent before the file is read, since it may be missing.
        for piece in pieces:
            if isinstance(piece, bytes):
                held += piece
                continue
            async with aclosing(file.parts(piece.start, piece.stop)) as parts:
                async for part in parts:
                    if held:
                        yield held
                        held = b""
                    yield part
        yield held


async def offload(
    request: Request, storage: Storage, record: FileRecord, headers: Mapping[str, str]
) -> Response | None:
    """Return the response with which nginx or S3 sends the file or the selected range.

    `headers` are those of the service's own response. Returns None when the service must send it.
    """
    chosen = request.app.state.settings.download.offload
    if not chosen or not _agrees(request, record, headers):
        return None
    if chosen == "presigned":
        url = await storage.presigned(record, headers) if _is_plain(request, headers) else None
        return Response(status_code=307, headers=_REDIRECT | {"Location": url}) if url else None
    if not isinstance(storage, LocalStorage):
        return None
    kept = {name: value for name, value in headers.items() if name.lower() not in _FRAMING}
    path = storage.path(record.id).relative_to(storage.root).as_posix()
    return Response(headers={**kept, "X-Accel-Redirect": f"/_{path}"})


def _agrees(request: Request, record: FileRecord, headers: Mapping[str, str]) -> bool:
    """Whether nginx and S3 select the same bytes for a request as the service does."""
    fields = request.headers
    if request.method != "GET" or "if-match" in fields or "if-unmodified-since" in fields:
        return False
    if "range" not in fields:
        return True
    single = _RANGE.fullmatch(joined(fields, "range"))
    applies = fields.get("if-range", record.etag) == record.etag
    return single is not None and applies and "Content-Range" in headers


def _is_plain(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether a response of S3, which has no security headers, means the same to the client."""
    shown = headers["Content-Disposition"].startswith("inline")
    unsatisfied = headers.get("Content-Range", "").startswith("bytes *")
    return not shown and not unsatisfied and _OURS.isdisjoint(request.headers.keys())
