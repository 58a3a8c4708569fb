"""Reading: ranges of objects, as they arrive; a lost connection is replaced by one for the rest."""

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any

from ...objects.bucket import BucketError
from ..place import unavailable
from ..records import not_found
from .pool import Refused, S3Pool

#: Bytes of the largest chunk. The HTTP client stops reading when it has about as many.
CHUNK = 256 << 10
#: Connections that may be lost one after the other before any byte has arrived, and the seconds
#: before the second try; later intervals double.
TRIES = 5
RETRY_SECONDS = 0.1


class S3File:
    """A stored file."""

    def __init__(self, pool: S3Pool, key: str) -> None:
        self._pool, self._key = pool, key

    async def parts(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` up to `stop` (exclusive), in chunks of up to 256 KiB.

        Raises Problem 404 or 503 before the first chunk, 503 also later, and EOFError if the object
        is shorter.
        """
        tag, failures = "", 0
        while start < stop:
            body: Any = None
            try:
                body, tag = await self._get(start, stop, tag)
                while start < stop:
                    with self._pool.bucket.errors():
                        chunk = await body.read(CHUNK)
                    if not chunk:
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
