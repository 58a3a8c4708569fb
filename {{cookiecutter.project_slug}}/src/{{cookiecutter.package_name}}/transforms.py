"""Transforms: a body in, and what becomes of it out, at the same time.

For clients that read while they write, such as curl and node.
"""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator

from .engine.download import TransformRouter
from .engine.kernel import Gzip

router = TransformRouter(prefix="/transform", tags=["download"])


@router.transform("/gzip", takes="application/octet-stream", gives="application/gzip")
async def gzip(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Compress; what has come back can be decompressed before the rest is sent."""
    coding = Gzip()
    async for chunk in body:
        yield await coding.encode(chunk)
    yield coding.end()


@router.transform("/upper", takes="text/plain", gives="text/plain")
async def upper(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Make UTF-8 upper case; bytes that are no UTF-8 stay as they are."""
    # Characters that a chunk cuts wait for their rest.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    async for chunk in body:
        yield decoder.decode(chunk).upper().encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
