"""The guard of a bucket: all processes that use it share one Redis, or there is only one process.

The object `process` contains the id of the data in Redis, or of the one process without Redis. One
process with this id rewrites it every BEAT_SECONDS. Before a process with another id replaces it,
it watches the object for DEAD_SECONDS of its own clock: a change in this time means that it is in
use. After HOLD_SECONDS without a write or a change, a process assumes that it was replaced.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from ..kernel.threads import in_thread, repeating
from ..streams.clock import steady_time
from .bucket import Bucket
from .leases import Leases

BEAT_SECONDS, DEAD_SECONDS, HOLD_SECONDS = 3.0, 10.0, 8.0
#: Seconds between two looks at the mark of another.
LOOK_SECONDS = 0.5
#: More than the fences that a process can use between two beats.
FENCES = 10**9

logger = logging.getLogger(__name__)


class Guard:
    """The right of this process to use a bucket."""

    def __init__(self, bucket: Bucket, leases: Leases) -> None:
        self._bucket = bucket
        self._leases = leases
        self._key = bucket.key("process")
        self._own = secrets.token_hex(8)
        #: The mark as it was last seen, and when; and the id in it when it was this process's.
        self._etag: str | None = None
        self._mark: dict[str, Any] = {}
        self._seen_at = self._until = 0.0
        self._last_id = ""
        self._is_lost = False

    def is_held(self) -> bool:
        """Return False as soon as a process with another Redis may use the bucket."""
        return steady_time() < self._until

    async def start(self) -> None:
        """Wait until the bucket is free; raises OSError with one line if others use it."""
        leases, first, stop = self._leases, None, steady_time() + DEAD_SECONDS
        while True:
            await in_thread(None, self._look)
            first, has_waited = first or self._etag, steady_time() > stop
            mark, is_own = self._mark, self._is_own()
            is_free = is_own or mark["ended"]
            if has_waited and not is_free and self._etag != first:
                raise OSError(self._refusal())
            if is_free or has_waited:
                # Its last fences may be missing in the mark.
                leases.number = max(leases.number, mark["number"] + FENCES * (not is_own))
                if await in_thread(None, self._write):
                    break
            await asyncio.sleep(LOOK_SECONDS)
        if mark["ended"]:
            await leases.begin()

    async def beat(self) -> None:
        """Rewrite the mark, unless another process with this Redis has done that."""
        seen_at, etag = self._seen_at, self._etag
        with suppress(OSError):
            await in_thread(None, self._look)
            if self._is_own() and self._etag == etag:
                await in_thread(None, self._write)
            elif self._is_own():
                self._until = max(self._until, seen_at + HOLD_SECONDS)
        if self._is_lost is self.is_held():
            self._is_lost = not self._is_lost
            reason = "the bucket does not respond" if self._is_own() else self._refusal()
            text = "%s cannot be used: %s" if self._is_lost else "%s can be used again%.0s"
            logger.error(text, self._bucket.url, reason)

    async def end(self) -> None:
        """Let the next process start at once; with Redis, others may continue."""
        if not self._leases.id and self._is_own():
            with suppress(OSError):
                await in_thread(None, self._write, ended=True)

    def _id(self) -> str:
        """Return the id of this process, or of the data of Redis, which a restart may change."""
        return self._leases.id or self._own

    def _is_own(self) -> bool:
        return self._mark["id"] in (self._id(), self._last_id)

    def _look(self) -> None:
        seen_at, found = steady_time(), self._bucket.get_tagged(self._key)
        data, self._etag = found or (b'{"id": "", "number": 0, "ended": true}', None)
        self._mark, self._seen_at = json.loads(data), seen_at
        if self._mark["id"] == self._id():
            self._last_id = self._id()

    def _write(self, *, ended: bool = False) -> bool:
        """Write the mark if it is still the one that was seen last."""
        leases, sent = self._leases, steady_time()
        mark = {"id": self._id(), "redis": bool(leases.id), "number": leases.number}
        mark |= {"ended": ended, "nonce": secrets.token_hex(4)}  # So that the tag changes.
        etag = self._bucket.put_if(self._key, json.dumps(mark).encode(), self._etag)
        if etag is not None:
            self._etag, self._mark, self._until = etag, mark, sent + HOLD_SECONDS
            self._last_id = str(mark["id"])
        return etag is not None

    def _refusal(self) -> str:
        others = "processes with Redis use it" if self._mark["redis"] else "another process uses it"
        return f"{others}: all of them need the same APP_STORAGE__REDIS_URL"


@asynccontextmanager
async def guarded(bucket: Bucket, leases: Leases) -> AsyncGenerator[Guard]:
    """Use a bucket together with the processes that have the same leases, and with no others.

    From its loss on, no lease is held and none can be taken. Raises OSError with one line if others
    use the bucket, after DEAD_SECONDS.
    """
    guard = Guard(bucket, leases)
    await guard.start()
    leases.is_guarded = guard.is_held
    try:
        async with repeating(BEAT_SECONDS, guard.beat):
            yield guard
    finally:
        await guard.end()
