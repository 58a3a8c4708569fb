"""Transforms: a body in, and what becomes of it out, at the same time.

For clients that read while they write, such as curl and node: who writes all of a large body first
waits for a service that waits for its reader, until a deadline cuts it off. A new transform is one
decorated asynchronous generator in this file.
"""

import codecs
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from fastapi import APIRouter, Request, Response

from ..streaming import ByteStream, Gzip, RequestBody, refuse_coding, require_text

Transform = Callable[[AsyncIterator[bytes]], AsyncGenerator[bytes]]

router = APIRouter()


def transform(
    name: str, *, takes: str, gives: str, router: APIRouter = router
) -> Callable[[Transform], Transform]:
    """Register a generator of bytes as `POST /transform/{name}`, with its two media types.

    Text is UTF-8; of which media type a body says that it is does not matter else.
    """
    check = require_text if takes.startswith("text/") else refuse_coding

    def register(function: Transform) -> Transform:
        @router.post(
            f"/transform/{name}",
            name=f"transform_{name}",
            description=inspect.getdoc(function),
            response_class=Response,
            responses={200: {"content": {gives: {}}}, 408: {}, 413: {}, 415: {}},
            openapi_extra={"requestBody": {"content": {takes: {}}}},
        )
        async def send(request: Request) -> ByteStream:
            check(request)
            body = RequestBody(request, request.app.state.settings.download.max_transform)
            return ByteStream(function(body), media_type=gives, duplex=True)

        return function

    return register


@transform("gzip", takes="application/octet-stream", gives="application/gzip")
async def gzip(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Compress; what has come back can be decompressed before the rest is sent."""
    coding = Gzip()
    async for chunk in body:
        yield await coding.encode(chunk)
    yield coding.end()


@transform("upper", takes="text/plain", gives="text/plain")
async def upper(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Make UTF-8 upper case; bytes that are no UTF-8 stay as they are."""
    # Characters that a chunk cuts wait for their rest.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    async for chunk in body:
        yield decoder.decode(chunk).upper().encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
