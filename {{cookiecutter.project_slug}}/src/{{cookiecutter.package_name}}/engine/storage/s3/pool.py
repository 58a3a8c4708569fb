"""The client of S3, and the memory of all uploads of a process."""

import asyncio
import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any

from botocore.exceptions import ClientError

from ...kernel.kernel import BOUNDS
from ...objects.bucket import Bucket, BucketError
from ..writer import reuse_buffers

#: Seconds that an upload waits for memory before it uses a temporary file; and after that, seconds
#: for which none waits: slow clients have the memory.
WAIT_SECONDS, SHORT_SECONDS = 2.0, 10.0
#: Seconds for a request with its repetitions, without those for its bytes.
REQUEST_SECONDS = 120.0
#: Status codes that the callers of `ask` handle.
HANDLED = {404, 409, 412, 416}
#: Requests whose bytes are read from temporary files at the same time.
READERS = 16
#: Bytes up to which the buffers of a part are reused.
REUSED = 16 << 20
#: Threads that compute checksums and digests, and as many that use temporary files.
THREADS = min(4, os.cpu_count() or 1)


class Refused(BucketError):
    """S3 has refused a request about a key with one of the statuses in HANDLED."""

    def __init__(self, key: str, status: int) -> None:
        super().__init__(f"{key}: S3 has replied {status}", is_temporary=False)
        self.status = status


class S3Pool:
    """The client, and the bytes that all uploads of the process hold in memory."""

    def __init__(self, client: Any, bucket: Bucket, max_buffered: int) -> None:
        """`client` is that of `Bucket.connected`."""
        self.client, self.bucket = client, bucket
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="checksum")
        #: Not the same: the uploads in memory do not wait for a slow disk.
        self.files = ThreadPoolExecutor(THREADS, thread_name_prefix="spill")
        self.buffered = 0
        self.reading = asyncio.Semaphore(READERS)
        #: Until when the client receives large ranges, in the time of the event loop.
        self.direct_from = 0.0 if sys.platform != "win32" and bucket.is_direct else inf
        self._max_buffered = max_buffered
        #: Until when no upload waits, in the time of the event loop.
        self._short_until = 0.0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        reuse_buffers(REUSED)

    async def ask(self, operation: str, key: str, *, seconds: float = 0, **arguments: Any) -> Any:
        """Send a request about an object; raises BucketError, also Refused.

        It gets `seconds` more than others for its bytes.
        """
        with self.bucket.errors():
            # The HTTP client has no timeout for a server that stops to read.
            async with asyncio.timeout(REQUEST_SECONDS + seconds):
                try:
                    method = getattr(self.client, operation)
                    return await method(Bucket=self.bucket.name, Key=key, **arguments)
                except ClientError as error:
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    if status in HANDLED and error.response["Error"].get("Code") != "NoSuchBucket":
                        raise Refused(key, status) from error
                    raise

    def is_direct(self) -> bool:
        """Whether large ranges are received without the client."""
        return asyncio.get_running_loop().time() >= self.direct_from

    def pause_direct(self, seconds: float) -> None:
        """Let the client receive large ranges for some time."""
        self.direct_from = asyncio.get_running_loop().time() + seconds

    async def take(self, size: int) -> bool:
        """Take memory for `size` bytes, in order; return False if none is free in WAIT_SECONDS.

        More than the maximum is only taken while no other upload has any.
        """
        if not self._waiting and self._fits(size):
            self.buffered += size
            return True
        BOUNDS["storage.max_buffered"] += 1
        loop = asyncio.get_running_loop()
        if loop.time() < self._short_until:
            return False
        turn = loop.create_future()
        self._waiting.append((size, turn))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn
        except BaseException as error:
            # A turn that came together with the cancellation is passed on.
            self.give(0 if turn.cancelled() else size)
            if isinstance(error, TimeoutError):
                self._short_until = loop.time() + SHORT_SECONDS
                return False
            raise
        return True

    def give(self, size: int) -> None:
        """Free the memory of `size` bytes."""
        self.buffered -= size
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self.buffered += wanted
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self.buffered or self.buffered + size <= self._max_buffered
