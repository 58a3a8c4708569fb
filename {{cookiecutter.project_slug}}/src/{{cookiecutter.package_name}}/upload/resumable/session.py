"""One upload in the hands of one request: appending to it, and making a file of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol

from ...storage import FileRecord
from ...storage.partials import LocalPartials, Partial
from ...storage.writer import LocalWriter
from ...streaming import Problem, RequestBody, complete

#: Seconds in which a request that is cut may still take what its client has sent.
GRACE = 0.05

#: Called with the offset, whenever this many bytes more have been written.
Inform = Callable[[int], Awaitable[None]]
INFORM_EVERY = 8 << 20


class Check(Protocol):
    """A digest of the bytes of one request."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes; in a thread."""

    def verify(self) -> None:
        """Raise Problem when they are not the ones that were promised."""


class Lane:
    """The requests of this process that want the same upload."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.requests = 0
        self.newest = 0
        self.scope: asyncio.Timeout | None = None

    def cut(self) -> None:
        """Let the request whose body is being received end now."""
        if self.scope is not None:
            self.scope.reschedule(asyncio.get_running_loop().time() + GRACE)
            self.scope = None


class Session:
    """One upload in the hands of one request; `offset` is how many bytes are there."""

    def __init__(
        self,
        partials: LocalPartials,
        partial: Partial,
        record: FileRecord | None,
        offset: int,
        changed_at: float,
        lane: Lane,
        number: int,
        max_size: int,
    ) -> None:
        self.partial = partial
        #: The file that has become of the upload.
        self.record = record
        self.offset = offset
        #: When the upload last changed, in seconds since the epoch.
        self.changed_at = changed_at
        self._partials = partials
        self._lane = lane
        self._number = number
        self._max_size = max_size

    @property
    def length(self) -> int | None:
        return self.record.size if self.record else self.partial.length

    async def receive(
        self,
        body: RequestBody,
        length: int | None = None,
        check: Check | None = None,
        inform: Inform | None = None,
    ) -> None:
        """Append a body, and take the word of its request on the length of the whole.

        What came of a body that breaks off is kept. Nothing is kept of one that exceeds its limit
        or fails its check, or that broke off and so cannot be checked. An upload that `completes`
        becomes a file with its last byte. Raises Problem 423 when a newer request takes over.
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
            async with self._partials.open(self.partial, start, tap) as writer:
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
            async with self._partials.open(self.partial, self.offset) as writer:
                return await self._commit(writer, digest)
        return self.record

    async def discard(self) -> None:
        """Forget the upload and its bytes."""
        await complete(self._partials.remove(self.partial.id))

    def read(self) -> AsyncGenerator[bytes]:
        """Yield the bytes so far."""
        return self._partials.read(self.partial.id, self.offset)

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
        await complete(self._partials.save(self.partial))

    async def _undo(self, offset: int, length: int | None) -> None:
        await self._partials.truncate(self.partial.id, offset)
        self.offset = offset
        if (self.partial.rollback, self.partial.length) != (None, length):
            await self._change(rollback=None, length=length)

    async def _pour(
        self, body: RequestBody, writer: LocalWriter | None, inform: Inform | None = None
    ) -> None:
        superseded = self._number != self._lane.newest
        informed = self.offset
        try:
            async with asyncio.timeout(GRACE if superseded else None) as scope:
                self._lane.scope = None if superseded else scope
                async for chunk in body:
                    if writer is None:
                        continue  # There is no room, which the limit of the body says.
                    await writer.write(chunk)
                    if inform and writer.written - informed >= INFORM_EVERY:
                        informed = writer.written
                        await inform(informed)
        except TimeoutError:
            raise Problem(423, "A newer request works on this upload.") from None
        finally:
            self._lane.scope = None

    async def _assemble(self) -> bool:
        """Put the parts of an upload together; return whether it has parts, and all are there."""
        sizes = await self._partials.sizes() if self.partial.parts else {}
        length = 0
        for part in self.partial.parts:
            known = await self._partials.load(part)
            state = known[0] if known else None
            if state is None or state.rollback is not None or state.length != sizes.get(part):
                return False
            length += sizes[part]
        if not self.partial.parts:
            return False
        if length > self._max_size:
            await self.discard()
            raise Problem(413, f"A file may have at most {self._max_size} bytes.")
        await self._partials.concatenate(self.partial.id, self.partial.parts)
        self.offset = length
        await self._change(length=length)
        return True
