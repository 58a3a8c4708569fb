"""The examples of transforms, with the framework's own means."""

import zlib
from collections.abc import AsyncIterator

from .bodies import TransformRouter

router = TransformRouter(prefix="/transform")


@router.transform("/gzip", takes="application/octet-stream", gives="application/gzip")
async def gzip(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    coding = zlib.compressobj(wbits=31)
    async for chunk in body:
        yield coding.compress(chunk) + coding.flush(zlib.Z_SYNC_FLUSH)
    yield coding.flush()


@router.transform("/upper", takes="text/plain", gives="text/plain")
async def upper(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in body:
        yield chunk.upper()
