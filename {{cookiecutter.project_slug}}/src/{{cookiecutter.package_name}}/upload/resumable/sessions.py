"""Sessions: the sole right to one upload, for the time of one request.

Within a process the newest request wins: it cuts the one that works on the upload, whose bytes are
kept, and goes on where they end. So a client that comes back never waits for its own dead
connection, and the offset that it is told is one that its next request may use. Between processes
a lock decides, and whoever comes second is answered with 423.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from fastapi import Request

from ...settings import Settings, UploadSettings
from ...storage.claims import Claim
from ...storage.local import LocalStorage
from ...storage.partials import LocalPartials, Partial
from ...storage.records import checked_id
from ...streaming import Problem, complete, repeating
from .session import Lane, Session

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

    async def create(self, partial: Partial) -> None:
        await self.partials.add(partial)

    @asynccontextmanager
    async def hold(self, upload_id: str) -> AsyncGenerator[Session]:
        """Work on an upload; raises Problem 404, or 423 when another process does."""
        lane = self._lanes.setdefault(checked_id(upload_id), Lane())
        lane.requests += 1
        lane.newest += 1
        number = lane.newest
        lane.cut()
        try:
            async with self._locked(lane, upload_id):
                session = await self._open(upload_id, lane)
                session._number = number
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

    async def _open(self, upload_id: str, lane: Lane) -> Session:
        partial = await self.partials.get(upload_id)
        if partial is None or await self.expires_at(partial) < time.time():
            raise _gone()
        record = await self.partials.recover(partial)
        if record is None and partial.completed_at is not None:
            raise _gone()  # The file that became of it has been deleted.
        offset = record.size if record else await self.partials.size(upload_id)
        if offset is None:
            raise _gone()  # A power cut took its name, or the owner of the disk its bytes.
        session = Session(self.partials, partial, offset, record, lane, self._max_size)
        if record and partial.completed_at is None:
            await session.change(length=record.size, completed_at=time.time())
        if partial.rollback is not None:
            await complete(session.truncate(min(partial.rollback, offset)))
        return session

    async def expires_at(self, partial: Partial) -> float:
        """Return until when an upload is kept, in seconds since the epoch."""
        return await self.partials.changed_at(partial) + self._expire_after

    async def settle_all(self, part: str | None = None) -> None:
        """Make files of the uploads that a crash, or a missing `part`, has kept from it."""
        sizes = await self.partials.sizes()
        for partial in await self.partials.all():
            if partial.completed_at is not None or partial.id in self._lanes:
                continue
            size = sizes.get(partial.id)
            whole = size is None or (partial.completes and size == partial.length)
            if part in partial.parts if part else (whole or partial.parts):
                with suppress(Problem):
                    async with self.hold(partial.id) as session:
                        await session.settle()

    async def sweep(self) -> None:
        """Remove what has expired, and end what a crash cut short; one process does it for all."""
        leader = await self.partials.claim("sweep")
        if leader is None:
            return
        try:
            for partial in await self.partials.all():
                if await self.expires_at(partial) < time.time():
                    await self._remove(partial.id)
            for orphan in await self.partials.orphans():
                if orphan != "sweep":
                    await self._remove(orphan)
            await self.settle_all()
        finally:
            await self.partials.release(leader)

    async def _remove(self, upload_id: str) -> None:
        claim = await self.partials.claim(upload_id)
        if claim is None:
            return  # Somebody works on it.
        try:
            partial = await self.partials.get(upload_id)
            if partial is None or await self.expires_at(partial) < time.time():
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
