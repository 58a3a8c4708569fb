"""Transforms: the service converts a request body and sends the result while the body arrives.

The client must read while it writes, as curl and node do.
"""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator

from .engine.download import TransformRouter
from .engine.streams import Gzip

router = TransformRouter(prefix="/transform", tags=["download"])


@router.transform("/gzip", takes="application/octet-stream", gives="application/gzip")
async def gzip(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Compress a body; each chunk of the response can be decompressed when it arrives."""
    coding = Gzip()
    async for chunk in body:
        yield await coding.encode(chunk)
    yield coding.end()


@router.transform("/upper", takes="text/plain", gives="text/plain")
async def upper(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Convert UTF-8 to upper case; bytes that are not UTF-8 are not changed."""
    # The decoder keeps an incomplete character at the end of a chunk for the next chunk.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    async for chunk in body:
        yield decoder.decode(chunk).upper().encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
