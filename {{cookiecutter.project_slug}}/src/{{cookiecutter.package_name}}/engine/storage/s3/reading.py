"""Reading: ranges of objects, as they arrive; a lost connection is replaced by one for the rest."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ...objects.bucket import BucketError
from ..place import unavailable
from ..records import not_found
from .pool import Refused, S3Pool

#: Bytes of the largest chunk, which event loops read at once, and of a block for small ranges that
#: are near each other. The HTTP client stops reading when it has about twice as many.
CHUNK = 256 << 10
#: Connections that may be lost one after the other before any byte has arrived, and the seconds
#: before the second try; later intervals double.
TRIES = 5
RETRY_SECONDS = 0.1


class S3File:
    """A stored file."""

    def __init__(self, pool: S3Pool, key: str, size: int = 0) -> None:
        """Bytes after a range are only read before `size`, by default none."""
        self._pool, self._key, self._size = pool, key, size
        #: The start of the last range, and the bytes from `_block_start` on that are in memory.
        self._last: int | None = None
        self._block, self._block_start = b"", 0

    def parts(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` up to `stop` (exclusive), in chunks of up to 256 KiB.

        A range near the last one is read together with those that may follow it, in the same
        direction. Raises Problem 404 or 503 before the first chunk, 503 also later, and EOFError if
        the object is shorter.
        """
        last, self._last = self._last, start
        if last is None or abs(start - last) > CHUNK or stop - start > CHUNK:
            return self._parts(start, stop)
        return self._near(start, stop, start if start > last else max(stop - CHUNK, 0))

    async def _near(self, start: int, stop: int, first: int) -> AsyncGenerator[bytes]:
        """Yield a small range, and keep a block from `first` on in memory."""
        if not self._block_start <= start <= stop <= self._block_start + len(self._block):
            end = max(min(first + CHUNK, self._size), stop)
            async with aclosing(self._parts(first, end)) as chunks:
                self._block = b"".join([chunk async for chunk in chunks])
            self._block_start = first
        yield self._block[start - self._block_start : stop - self._block_start]

    async def _parts(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        tag, failures = "", 0
        while start < stop:
            body: Any = None
            try:
                body, tag = await self._get(start, stop, tag)
                while start < stop:
                    with self._pool.bucket.errors():
                        # `read` would join what has arrived, which is a copy.
                        chunk, is_framed = await body.raw_stream.content.readchunk()
                    if not (chunk or is_framed):
                        raise EOFError("a stored file is shorter than its record")
                    start += len(chunk)
                    failures = 0
                    yield chunk
            except BucketError as error:
                failures += 1
                if not tag or failures == TRIES:  # The client has repeated the first request.
                    raise unavailable() from error
                await asyncio.sleep(RETRY_SECONDS * 2**failures * random.uniform(0.5, 1))  # noqa: S311
            finally:
                if body is not None:
                    body.close()

    async def _get(self, start: int, stop: int, tag: str) -> tuple[Any, str]:
        """Request a range of the object that has this entity tag, if it is known."""
        condition: dict[str, Any] = {"IfMatch": tag} if tag else {}
        try:
            found = await self._pool.ask(
                "get_object", self._key, Range=f"bytes={start}-{stop - 1}", **condition
            )
        except Refused as refused:
            if refused.status == 404 and not tag:
                raise not_found() from None
            raise EOFError("a stored file was replaced, or is shorter than its record") from refused
        return found["Body"], found["ETag"]
