"""One upload in the hands of one request: appending to it, and making a file of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol

from ...storage import FileRecord
from ...storage.partials import LocalPartials, Partial
from ...streaming import Problem, RequestBody, complete

#: Seconds in which a request that is cut may still take what its client has sent.
GRACE = 0.05
#: Called with the offset, whenever this many bytes more have been written.
Inform = Callable[[int], Awaitable[None]]
INFORM_EVERY = 8 << 20


class Check(Protocol):
    """A digest of the bytes of one request."""

    def update(self, data: bytes, /) -> None:
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
        offset: int,
        record: FileRecord | None,
        lane: Lane,
        max_size: int,
    ) -> None:
        self.partial = partial
        self.offset = offset
        #: The file that has become of the upload.
        self.record = record
        self._partials = partials
        self._lane = lane
        self._number = lane.newest
        self._max_size = max_size

    @property
    def length(self) -> int | None:
        return self.record.size if self.record else self.partial.length

    async def change(self, **changes: Any) -> None:
        """Change what is known of the upload, durably."""
        self.partial = self.partial.model_copy(update=changes)
        await complete(self._partials.save(self.partial))

    async def receive(
        self,
        body: RequestBody,
        length: int | None = None,
        check: Check | None = None,
        inform: Inform | None = None,
    ) -> None:
        """Append a body, and take the word of its request on the length of the whole.

        What came of a body that breaks off is kept. Nothing is kept of one that exceeds its limit
        or fails its check, or that broke off and so cannot be checked. Raises Problem 423 when a
        newer request takes over.
        """
        start, known = self.offset, self.partial.length
        if check or length != known:
            await self.change(length=length, rollback=start if check else None)
        try:
            tap = check.update if check else None
            async with self._partials.open(self.partial, tap) as writer:
                try:
                    await self._pour(body, writer, inform)
                finally:
                    await complete(writer.flush())
                    self.offset = writer.written
            if check:
                check.verify()
        except BaseException:
            if check or body.received > body.limit:
                await complete(self._undo(start, known))
            raise
        if check:
            await self.change(rollback=None)

    async def truncate(self, offset: int) -> None:
        """Go back to an offset."""
        await self._partials.truncate(self.partial.id, offset)
        self.offset = offset
        if self.partial.rollback is not None:
            await self.change(rollback=None)

    async def _undo(self, offset: int, length: int | None) -> None:
        await self.truncate(offset)
        if self.partial.length != length:
            await self.change(length=length)

    async def settle(self) -> None:
        """Make a file of an upload that needs no more word for it, if all of it is there."""
        if self.record is not None or not self.partial.completes:
            return
        if self.offset == self.partial.length or await self._assemble():
            await self.finish()

    async def finish(self, digest: dict[str, str] | None = None) -> FileRecord:
        """Make a file of what is there; an upload that is refused now is gone."""
        if self.record is None:
            try:
                async with self._partials.open(self.partial) as writer:
                    self.record = await writer.commit(digest)
            except Problem as problem:
                if problem.status_code < 500:
                    await self.discard()
                raise
            await self.change(length=self.record.size, completed_at=time.time())
        return self.record

    async def discard(self) -> None:
        await complete(self._partials.remove(self.partial.id))

    def read(self) -> AsyncGenerator[bytes]:
        """Yield the bytes so far."""
        return self._partials.read(self.partial.id, self.offset)

    async def _pour(self, body: RequestBody, writer: Any, inform: Inform | None) -> None:
        superseded = self._number != self._lane.newest
        informed = writer.written
        try:
            async with asyncio.timeout(GRACE if superseded else None) as scope:
                self._lane.scope = None if superseded else scope
                async for chunk in body:
                    await writer.write(chunk)
                    if inform and writer.written - informed >= INFORM_EVERY:
                        informed = writer.written
                        await inform(informed)
        except TimeoutError:
            raise _taken_over() from None
        finally:
            self._lane.scope = None

    async def _assemble(self) -> bool:
        """Put the parts of an upload together; return whether it has parts, and all are there."""
        sizes = await self._partials.sizes() if self.partial.parts else {}
        lengths = []
        for part in self.partial.parts:
            state = await self._partials.get(part)
            if state is None or state.length is None or state.rollback is not None:
                return False
            if state.length != sizes.get(part):
                return False
            lengths.append(state.length)
        if not lengths:
            return False
        if sum(lengths) > self._max_size:
            await self.discard()
            raise Problem(413, f"A file may have at most {self._max_size} bytes.")
        await self._partials.concatenate(self.partial.id, self.partial.parts)
        self.offset = sum(lengths)
        await self.change(length=self.offset)
        return True


def _taken_over() -> Problem:
    return Problem(423, "A newer request works on this upload.")
