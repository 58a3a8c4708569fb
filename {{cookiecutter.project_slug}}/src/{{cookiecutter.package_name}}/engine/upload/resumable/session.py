"""What a request does with an upload: append to it, and make a file of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ...kernel.body import RequestBody
from ...kernel.exchange import Outcome
from ...kernel.problem import Problem, ProblemType
from ...kernel.threads import complete
from ...storage.claims import Claim
from ...storage.partial import Partial
from ...storage.partials import LocalPartials
from ...storage.records import FileRecord
from ...storage.writer import LocalWriter
from ...streams.digests import Digester
from .checksums import Checksum
from .fields import too_large

BUSY = ProblemType(
    "upload-busy",
    "Another request works on this upload",
    "Only one request at a time does, and this one waited in vain. Ask for the offset after the"
    " seconds of `Retry-After`, and go on from there. Clients of the IETF's draft get it as a 503.",
)
TAKEN_OVER = ProblemType(
    "upload-taken-over",
    "A newer request works on this upload",
    "This one was ended in favour of it, and what it had sent by then is kept. Leave the upload to"
    " the newer one.",
)

#: Seconds in which a request that is cut may still take what its client has sent, and those in
#: which it must have ended.
GRACE = 0.05
PATIENCE = 5.0
#: Seconds between two looks whether a newer request wants an upload whose body is being received.
LOOK_EVERY = 0.05


class Interrupted(Problem):
    """What was sent is kept, and its client shall come back for the rest.

    Clients do when their connection breaks, and after a 5xx; at a 408 they give up. So the
    connection ends without a response, and this is one for servers that cannot do that.
    """

    def __init__(self, reason: Problem, outcome: Outcome) -> None:
        super().__init__(503, reason.detail, type=reason.type, headers={"Retry-After": "1"})
        self.reason = reason
        self.outcome = outcome


#: Called with the offset, whenever this many bytes more have been written.
Inform = Callable[[int], Awaitable[object]]
INFORM_EVERY = 8 << 20


class Lane:
    """The requests of this process that want the same upload, in their order."""

    def __init__(self) -> None:
        self.requests = 0
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for those that came before, which make way; raises Problem 423."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._lock.acquire()
        except TimeoutError:
            raise busy() from None
        try:
            yield
        finally:
            self._lock.release()


@dataclass
class Session:
    """One upload in the hands of one request."""

    partials: LocalPartials
    lane: Lane
    claim: Claim
    max_size: int
    partial: Partial
    #: The file that has become of the upload.
    record: FileRecord | None
    #: How many bytes are there.
    offset: int
    #: When the upload last changed, in seconds since the epoch.
    changed_at: float

    @property
    def length(self) -> int | None:
        return self.record.size if self.record else self.partial.length

    async def receive(
        self,
        body: RequestBody,
        length: int | None,
        check: Digester | Checksum | None,
        inform: Inform | None = None,
    ) -> None:
        """Append a body, and take the word of its request on the length of the whole.

        What came of a body that breaks off is kept. Nothing is kept of one that exceeds its limit
        or fails its check, or that broke off and so cannot be checked. An upload that `completes`
        becomes a file with its last byte. Raises Interrupted for a body that stalls, and when a
        newer request takes over.
        """
        if self.record is not None:
            # Complete: its last answer may have been lost, and this says so with an empty body.
            await self._pour(body, None)
            return
        start, known = self.offset, self.partial.length
        if check or length != known:
            await self._change(length=length, rollback=start if check else None)
        try:
            tap = check.update if check else None
            async with self.partials.open(self.partial, start, tap) as writer:
                try:
                    await self._pour(body, writer, inform)
                finally:
                    await complete(writer.flush())
                    self.offset, self.changed_at = writer.written, time.time()
                if check:
                    check.verify()
                    check = None
                    await self._change(rollback=None)
                if self.partial.completes and self.offset == length:
                    await self._commit(writer)
        except BaseException:
            too_long = max(body.declared or 0, body.received) > body.limit
            if self.record is None and (check or too_long):
                await complete(self._undo(start, known))
            raise

    async def settle(self) -> None:
        """Make a file of an upload that needs no more word for it, if all of it is there."""
        if self.record is not None or not self.partial.completes:
            return
        if self.offset == self.partial.length or await self._assemble():
            await self.finish()

    async def finish(self, digest: dict[str, str] | None = None) -> FileRecord:
        """Make a file of what is there; an upload that is refused now is gone."""
        if self.record is None:
            async with self.partials.open(self.partial, self.offset) as writer:
                return await self._commit(writer, digest)
        return self.record

    async def discard(self) -> None:
        await complete(self.partials.remove(self.partial.id))

    async def adopt(self, record: FileRecord) -> None:
        """Take a file for what has become of the upload."""
        self.record, self.offset, self.changed_at = record, record.size, time.time()
        await self._change(length=record.size, rollback=None, completed_at=self.changed_at)

    async def roll_back(self) -> None:
        """Drop the bytes whose digest nobody has checked, if a request left any."""
        if self.partial.rollback is not None:
            await complete(self._undo(min(self.partial.rollback, self.offset), self.length))

    async def _commit(
        self, writer: LocalWriter, digest: dict[str, str] | None = None
    ) -> FileRecord:
        try:
            record = await writer.commit(digest)
        except Problem as problem:
            if problem.status_code < 500:
                await self.discard()
            raise
        await self.adopt(record)
        return record

    async def _change(self, **changes: Any) -> None:
        """Change what is known of the upload, durably."""
        self.partial = self.partial.model_copy(update=changes)
        await complete(self.partials.save(self.partial))

    async def _undo(self, offset: int, length: int | None) -> None:
        await self.partials.truncate(self.partial.id, offset)
        self.offset = offset
        if (self.partial.rollback, self.partial.length) != (None, length):
            await self._change(rollback=None, length=length)

    async def _pour(
        self, body: RequestBody, writer: LocalWriter | None, inform: Inform | None = None
    ) -> None:
        informed = self.offset
        try:
            async with asyncio.timeout(None) as limit, self._making_way(limit):
                async for chunk in body:
                    if writer is None:
                        continue  # There is no room, which the limit of the body says.
                    await writer.write(chunk)
                    if inform and writer.written - informed >= INFORM_EVERY:
                        informed = writer.written
                        await inform(informed)
        except TimeoutError:
            newer = Problem(503, "A newer request works on this upload.", type=TAKEN_OVER)
            raise Interrupted(newer, Outcome.REJECTED) from None
        except Problem as problem:
            if problem.status_code == 408:
                raise Interrupted(problem, Outcome.TIMEOUT) from None
            raise

    @asynccontextmanager
    async def _making_way(self, limit: asyncio.Timeout) -> AsyncGenerator[None]:
        """Let the limit end the block when a newer request wants the upload, of any process."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal timer
            if self.lane.requests > 1 or self.claim.is_wanted():
                limit.reschedule(loop.time() + GRACE)
            else:
                timer = loop.call_later(LOOK_EVERY, look)

        look()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    async def _assemble(self) -> bool:
        """Put the parts of an upload together; return whether it has parts, and all are there."""
        length = 0
        for part in self.partial.parts:
            state, _ = await self.partials.load(part)
            stat = await self.partials.stat(part)
            if not state or not stat or state.rollback is not None or state.length != stat.st_size:
                return False
            length += stat.st_size
        if not self.partial.parts:
            return False
        if length > self.max_size:
            await self.discard()
            raise too_large(self.max_size)
        await self.partials.concatenate(self.partial.id, self.partial.parts, length)
        self.offset = length
        await self._change(length=length)
        return True


def busy() -> Problem:
    detail = "Another request works on this upload."
    # The next connection may lead to the process that works on it.
    headers = {"Retry-After": "1", "Connection": "close"}
    return Problem(423, detail, type=BUSY, headers=headers)
