"""Sessions: the sole right to one upload, for the time of one request.

Within a process the newest request wins: it cuts the one that works on the upload, whose bytes are
kept, and goes on where they end. So a client that comes back never waits for its own dead
connection, and the offset that it is told is one that its next request may use. Between processes
a lock decides, and whoever comes second is answered with 423.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import Request

from ...settings import Settings, UploadSettings
from ...storage.claims import Claim
from ...storage.local import LocalStorage
from ...storage.partials import LocalPartials
from ...storage.records import checked_id
from ...streaming import Problem, complete, repeating
from ..descriptions import owner_of
from .session import Lane, Session

logger = logging.getLogger(__name__)

#: Seconds to wait for a request of this process that was cut, and for another process.
PATIENCE = 5.0
CONTENTION = 0.3


class Sessions:
    """All uploads that span requests; at `app.state.uploads`."""

    def __init__(self, partials: LocalPartials, settings: UploadSettings) -> None:
        self.partials = partials
        self._expire_after = settings.expire_after
        self._max_size = settings.max_size
        self._lanes: dict[str, Lane] = {}

    @asynccontextmanager
    async def hold(self, upload_id: str, request: Request | None = None) -> AsyncGenerator[Session]:
        """Work on an upload; raises Problem 404, or 423 when another process does.

        For a `request` it has to be an upload of the one who sent that.
        """
        lane = self._lanes.setdefault(checked_id(upload_id), Lane())
        lane.requests += 1
        lane.newest += 1
        number = lane.newest
        lane.cut()
        try:
            with self.partials.working():
                async with self._locked(lane, upload_id):
                    session = await self._open(upload_id, lane, number)
                    if request and session.partial.draft.owner != owner_of(request):
                        raise _gone()
                    yield session
        finally:
            lane.requests -= 1
            if not lane.requests:
                del self._lanes[upload_id]

    @asynccontextmanager
    async def _locked(self, lane: Lane, upload_id: str) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                await lane.lock.acquire()
        except TimeoutError:
            raise _busy() from None
        try:
            claim = await self._claim(upload_id)
            try:
                yield
            finally:
                await complete(self.partials.release(claim))
        finally:
            lane.lock.release()

    async def _claim(self, upload_id: str) -> Claim:
        stop = time.monotonic() + CONTENTION
        while (claim := await self.partials.claim(upload_id)) is None:
            if time.monotonic() > stop:
                raise _busy()
            await asyncio.sleep(0.02)
        return claim

    async def _open(self, upload_id: str, lane: Lane, number: int) -> Session:
        known = await self.partials.load(upload_id)
        if known is None:
            raise _gone()
        partial, record = known
        stat = None if record else await self.partials.stat(upload_id)
        if record is None and stat is None and partial.completed_at is None:
            record = await self.partials.recover(partial)
        changed_at = partial.completed_at or (stat.st_mtime if stat else time.time())
        if (record is None and stat is None) or self.expires_at(changed_at) < time.time():
            raise _gone()  # Deleted, expired, or taken by a power cut.
        offset = record.size if record else stat.st_size if stat else 0
        session = Session(
            self.partials, partial, record, offset, changed_at, lane, number, self._max_size
        )
        if record is None:
            await session.roll_back()
        elif partial.completed_at is None:
            await session.adopt(record)
        return session

    def expires_at(self, changed_at: float) -> float:
        """Return until when an upload is kept that changed then, in seconds since the epoch."""
        return changed_at + self._expire_after

    async def settle_all(self, part: str | None = None) -> None:
        """Make files of the uploads that a crash, or a missing `part`, has kept from it."""
        sizes = await self.partials.sizes()
        for partial in await self.partials.unsettled():
            if part is not None:
                wanted = part in partial.parts
            else:
                size = sizes.get(partial.id)
                whole = partial.parts or size is None or size == partial.length
                wanted = bool(whole) and partial.id not in self._lanes
            if wanted:
                await self._try(self._settle, partial.id)

    async def sweep(self) -> None:
        """End what a crash cut short, and remove what has expired; one process does it for all."""
        leader = await self.partials.claim("sweep")
        if leader is None:
            return
        try:
            await self.settle_all()
            for upload_id in await self.partials.expired(time.time() - self._expire_after):
                await self._try(self._remove, upload_id)
        finally:
            await self.partials.release(leader)

    async def _try(self, work: Callable[[str], Awaitable[None]], upload_id: str) -> None:
        """Do something about an upload; a failure must not keep others, or the start, from it."""
        try:
            await work(upload_id)
        except Problem as problem:
            logger.info("Upload %s: %s", upload_id, problem.detail)
        except Exception:
            logger.exception("Upload %s cannot be settled", upload_id)

    async def _settle(self, upload_id: str) -> None:
        async with self.hold(upload_id) as session:
            await session.settle()

    async def _remove(self, upload_id: str) -> None:
        claim = await self.partials.claim(upload_id)
        if claim is None:
            return  # Somebody works on it.
        try:
            if await self.partials.expired(time.time() - self._expire_after, upload_id):
                await complete(self.partials.remove(upload_id))
        finally:
            await self.partials.release(claim)


@asynccontextmanager
async def open_sessions(storage: LocalStorage, settings: Settings) -> AsyncGenerator[Sessions]:
    """Open the unfinished uploads of a store, recover what a crash left, and keep sweeping."""
    sessions = Sessions(LocalPartials(storage), settings.upload)
    await sessions.sweep()
    async with repeating(settings.storage.sweep_interval, sessions.sweep):
        yield sessions


def sessions_of(request: Request) -> Sessions:
    """Return the application's uploads."""
    sessions: Sessions = request.app.state.uploads
    return sessions


def _gone() -> Problem:
    return Problem(404, "There is no upload with this id.")


def _busy() -> Problem:
    return Problem(423, "Another request works on this upload.", headers={"Retry-After": "1"})
