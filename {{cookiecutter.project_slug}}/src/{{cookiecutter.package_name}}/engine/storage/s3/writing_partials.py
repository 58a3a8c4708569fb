"""Writing of unfinished uploads: full parts, and the rest of each request as a piece."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from ...kernel.problem import Problem
from ...kernel.threads import in_thread
from ...objects.leases import Lease
from ..interface import Chunk, Tap
from ..partials import Partial
from .body import SMALL, Body
from .store import S3Storage
from .writer import Part, S3Writer

#: Pieces of an upload that are read at the same time, and above which a request joins them.
READ_PIECES = 8
MOST_PIECES = 64


class Piece(NamedTuple):
    """An object with bytes of an upload."""

    offset: int
    fence: int
    size: int
    key: str


@dataclass
class State:
    """The bytes of an upload that are in the bucket."""

    size: int
    changed_at: float
    is_sealed: bool = False
    #: The id of the multipart upload, its parts that count, and the numbers that do not.
    upload_id: str | None = None
    #: The length in bytes on which the sizes of the parts depend, 0 if it was unknown.
    length: int = 0
    parts: Sequence[Part] = ()
    ignored: set[int] = field(default_factory=set)
    #: The highest number that has been used, and whether parts beyond those that count exist.
    last: int = 0
    has_strays: bool = False
    pieces: list[Piece] = field(default_factory=list)
    #: The keys of the pieces that do not count.
    unused: list[str] = field(default_factory=list)


class Hold:
    """The lease of an upload, for one request."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.task = asyncio.current_task()
        #: Between those of two holders there is one that is not used, for `truncate`.
        self.fence = 2 * lease.fence
        #: The state, until it changes.
        self.state: State | None = None
        self.has_written = self.is_removed = False

    def is_wanted(self) -> bool:
        """Whether a newer request asks for the upload, or another process may have it already."""
        return self._lease.is_wanted() or not self._lease.is_held()

    def check(self) -> None:
        """Raise Problem 503 if another process may have taken the lease."""
        if not self._lease.is_held():
            raise lost()


class PartialWriter(S3Writer):
    """Appends to an upload."""

    def __init__(
        self,
        storage: S3Storage,
        hold: Hold,
        partial: Partial,
        state: State,
        begin: Callable[[str], Awaitable[None]],
        tap: Tap | None,
        head: bytes | None,
    ) -> None:
        """`begin` records the id of the multipart upload; for `head` see S3Writer."""
        multipart = storage.multipart(
            partial.draft,
            partial.id,
            expected=state.length,
            upload_id=state.upload_id,
            parts=state.parts,
            last=state.last,
        )
        super().__init__(
            partial.id, partial.draft, multipart, storage.place, storage.callbacks, tap, head
        )
        self._storage, self._hold, self._begin = storage, hold, begin
        self._partial, self._state = partial, state
        self._folder = storage.bucket.key("pieces", partial.id)
        self.size = self._checked = self._told = self._start = state.size
        #: The pieces at the beginning of `_body` that are not in memory.
        self._unread: Sequence[Piece] = state.pieces
        #: The bytes of `_body` that are in pieces.
        self._body.size = self._saved = sum(piece.size for piece in state.pieces)
        #: Whether the upload becomes a file now, so that its end need not be a piece.
        self._ends = False

    @property
    def written(self) -> int:
        """Bytes that are durable, or that become durable before the writer is closed."""
        return self.size if self._ends else max(self._start, self.multipart.stored + self._saved)

    @property
    def is_sealed(self) -> bool:
        """Whether the bytes are an object, so that the pieces are not needed any more."""
        return self._state.is_sealed

    async def write(self, data: Chunk) -> None:
        if self.is_sealed:
            raise Problem(409, "The upload is complete.")
        self._hold.has_written = True
        await super().write(data)

    async def flush(self) -> None:
        """Make all bytes durable, except for the end of an upload that becomes a file now."""
        await self._check_all()
        with self._place.guarding():
            await self.multipart.settle()
        self._ends = self._partial.completes and self.size == self._partial.length
        if not self._ends:
            await self.keep()

    async def keep(self) -> None:
        """Store the bytes after the last part as a piece."""
        size = self._body.size - self._saved
        if size and not self._hold.is_removed:
            await self._check_all()
            await self._put(self.size - size, self._body.tail(size))
            self._saved = self._body.size

    async def finish(self) -> None:
        await self.flush()
        if self.head is not None:
            self._accept(self.head)
        await self.seal()

    async def seal(self) -> None:
        """Make an object of the bytes; it has no record yet."""
        if self.is_sealed:
            return
        self._hold.check()
        await self._fill()
        is_small = self.multipart.upload_id is None
        if self._body.size and not is_small:
            await super()._send()
            self._saved = 0
        with self._place.guarding():
            await (self.multipart.put(self._body) if is_small else self.multipart.complete())
        self._state.is_sealed = True

    async def join(self) -> None:
        """Make one piece of all."""
        await self._fill()
        await self._put(self.multipart.size, self._body)

    async def _send(self) -> None:
        self._hold.check()
        await self._fill()
        if self._state.upload_id is None:
            with self._place.guarding():
                upload_id = await self.multipart.begin()
            await self._begin(upload_id)
            self._state.upload_id = upload_id
        await super()._send()
        self._saved = 0

    async def _fill(self) -> None:
        """Read the pieces at the beginning of the body."""
        await self._check_all()
        if not self._unread:
            return
        filled = Body(self._pool)
        try:
            with self._place.guarding():
                async with aclosing(read_pieces(self._storage, self._unread)) as chunks:
                    async for chunk in chunks:
                        has_memory = await filled.take(len(chunk))
                        filled.add(chunk)
                        if not has_memory:
                            await filled.spill()
            await in_thread(self._pool.threads, filled.update, [*filled.chunks, *self._body.chunks])
        except BaseException:
            filled.clear()
            raise
        self._body.size -= filled.size
        filled.extend(self._body)
        self._body, self._unread = filled, ()

    async def _put(self, offset: int, body: Body) -> None:
        """Store bytes as a piece."""
        self._hold.check()
        body.crc = 0
        await in_thread(self._pool.threads, body.update, body.chunks)
        key = f"{self._folder}/{offset:016d}.{self._hold.fence:016d}"
        with self._place.guarding():
            await body.send("put_object", key)


async def read_pieces(storage: S3Storage, pieces: Sequence[Piece]) -> AsyncGenerator[bytes]:
    """Yield the bytes of the pieces; several small ones are read at the same time."""

    async def read(piece: Piece) -> bytes:
        async with aclosing(storage.read_key(piece.key, piece.size)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    rest = deque(pieces)
    try:
        while rest:
            batch = [rest.popleft()]
            if batch[0].size > SMALL:
                async with aclosing(storage.read_key(batch[0].key, batch[0].size)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                continue
            while rest and rest[0].size <= SMALL and len(batch) < READ_PIECES:
                batch.append(rest.popleft())
            for found in await asyncio.gather(*map(read, batch)):
                yield found
    except (Problem, EOFError) as error:
        if isinstance(error, Problem) and error.status_code != 404:
            raise
        # A holder that was suspended meanwhile: the next one has removed them.
        raise lost() from error


def lost() -> Problem:
    headers = {"Retry-After": "1"}
    return Problem(503, "Another process works on this upload.", headers=headers)
