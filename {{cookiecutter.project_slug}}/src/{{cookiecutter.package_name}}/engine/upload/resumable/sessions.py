"""Sessions: the sole right to one upload, for the time of one request.

The newest request wins: it cuts the one whose body is being received, in whatever process, and goes
on where the bytes of that one end. So a client that comes back never waits for its own dead
connection, and the offset that it is told is one that its next request may use. An upload that is
busy for longer, such as by the inspection of its file, is answered with 423 (tus) or 503.
"""

import logging
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

from fastapi import Request

from ...kernel.kernel import BOUNDS
from ...kernel.part import opened
from ...kernel.problem import Problem, ProblemType
from ...kernel.threads import complete, repeating
from ...storage.claims import Claim
from ...storage.local import LocalStorage
from ...storage.partial import Partial
from ...storage.partials import LocalPartials
from ...storage.records import checked_id
from ..descriptions import owner_of
from .session import PATIENCE, Lane, Session, busy
from .settings import ResumableUploadSettings

logger = logging.getLogger(__name__)

TOO_MANY = ProblemType(
    "too-many-uploads",
    "Too many uploads are unfinished",
    "Only so many uploads may wait for the rest of their bytes, of all clients (503) or of one"
    " owner (429), and this one was not begun. Finish or delete others, or come back after the"
    " seconds of `Retry-After`.",
)
_MANY, _LATER = "Too many uploads are unfinished.", {"Retry-After": "60"}
#: Seconds for which the sweep waits for another process.
CONTENTION = 0.3


class Sessions:
    """All uploads that span requests; at `app.state.uploads`."""

    def __init__(self, partials: LocalPartials, settings: ResumableUploadSettings) -> None:
        self.partials = partials
        self._expire_after = settings.expire_after
        self._settings = settings
        self._max_size = settings.max_size
        self._lanes: dict[str, Lane] = {}

    async def add(self, partial: Partial) -> None:
        """Begin an upload; raises Problem 413, 429, 503 or 507 when there is no room for it."""
        owner, limits = partial.draft.owner, self._settings
        everybody, own = await self.partials.count(owner)
        if everybody >= limits.max_incomplete:
            BOUNDS["upload.max_incomplete"] += 1
            raise Problem(503, _MANY, type=TOO_MANY, headers=_LATER)
        if owner is not None and own >= (limits.max_incomplete_per_owner or limits.max_incomplete):
            BOUNDS["upload.max_incomplete_per_owner"] += 1
            raise Problem(429, _MANY, type=TOO_MANY, headers=_LATER)
        await self.partials.add(partial)
        if partial.parts and not await self.partials.use(partial, limits.max_reuse):
            await self.partials.remove(partial.id)
            BOUNDS["upload.max_reuse"] += 1
            raise Problem(409, f"A part can be in at most {limits.max_reuse} files.")

    @asynccontextmanager
    async def hold(
        self, upload_id: str, request: Request | None = None, patience: float = PATIENCE
    ) -> AsyncGenerator[Session]:
        """Work on an upload; raises Problem 404 or 410, or 423 when others keep it for too long.

        For a `request` it has to be an upload of the one who sent that.
        """
        asked_at = time.monotonic_ns()
        lane = self._lanes.setdefault(checked_id(upload_id), Lane())
        lane.requests += 1
        try:
            with self.partials.storage.working():
                claiming = self.partials.claimed(upload_id, patience, asked_at)
                async with lane.turn(), claiming as claim:
                    if claim is None:
                        raise busy()
                    yield await self._open(upload_id, lane, claim, request)
        finally:
            lane.requests -= 1
            if not lane.requests:
                del self._lanes[upload_id]

    async def _open(
        self, upload_id: str, lane: Lane, claim: Claim, request: Request | None
    ) -> Session:
        partial, record = await self.partials.load(upload_id)
        if partial is None or (request and partial.draft.owner != owner_of(request)):
            raise _not_found()
        if partial.expired_at is not None:
            raise _expired()
        stat = None if record else await self.partials.stat(upload_id)
        if record is None and stat is None and partial.completed_at is None:
            record = await self.partials.recover(partial)
        changed_at = partial.completed_at or (stat.st_mtime if stat else time.time())
        if record is None and stat is None:
            raise _not_found()  # Deleted, or taken by a power cut.
        if self.expires_at(changed_at) < time.time():
            raise _expired()
        offset = record.size if record else stat.st_size if stat else 0
        session = Session(
            self.partials, lane, claim, self._max_size, partial, record, offset, changed_at
        )
        if record is None:
            await session.roll_back()
        elif partial.completed_at is None:
            await session.adopt(record)
        return session

    def expires_at(self, changed_at: float) -> float:
        """Return until when an upload is kept that changed then, in seconds since the epoch."""
        return changed_at + self._expire_after

    async def settle_all(self) -> None:
        """Make files of the uploads that a crash, or a missing part, has kept from it."""
        after = ""
        while page := await self.partials.unfinished(after):
            after = page[-1].id
            # In this order: an upload that begins meanwhile is not taken for one without bytes.
            sizes = await self.partials.sizes(page)
            for partial in page:
                whole = partial.parts or sizes.get(partial.id) in (None, partial.length)
                if whole and partial.id not in self._lanes:
                    await self._settle(partial)

    async def settle_wholes(self, part: str) -> None:
        """Make files of the uploads that have waited for this part."""
        for partial in await self.partials.waiting_for(part):
            await self._settle(partial)

    async def _settle(self, partial: Partial) -> None:
        if partial.completes:
            with _logged(partial.id):
                async with self.hold(partial.id, patience=CONTENTION) as session:
                    await session.settle()

    async def sweep(self) -> None:
        """End what a crash cut short, and remove what has expired; one process does it for all.

        That an upload has expired is known for as long again as it could be resumed.
        """
        if not self.partials.storage.place.is_up():
            return  # What lies there is of another store.
        async with self.partials.claimed("sweep") as leads:
            if leads:
                await self.settle_all()
                before = time.time() - self._expire_after
                for upload_id in await self.partials.expired(before):
                    with _logged(upload_id):
                        await self._expire(upload_id, before)
                with suppress(Problem):  # The disk is full; the next sweep may find some room.
                    await self.partials.forget(before)

    async def _expire(self, upload_id: str, before: float) -> None:
        async with self.partials.claimed(upload_id) as ours:  # Else somebody works on it.
            if ours and await self.partials.expired(before, upload_id):
                await complete(self.partials.expire(upload_id))


@contextmanager
def _logged(upload_id: str) -> Generator[None]:
    """Do something about an upload; a failure must not keep others, or the start, from it."""
    try:
        yield
    except Problem as problem:
        logger.info("Upload %s: %s", upload_id, problem.detail)
    except Exception:
        logger.exception("Upload %s cannot be settled", upload_id)


@asynccontextmanager
async def open_sessions(
    storage: LocalStorage, settings: ResumableUploadSettings, sweep_interval: float
) -> AsyncGenerator[Sessions]:
    """Open the unfinished uploads of a store, recover what a crash left, and keep sweeping."""
    sessions = Sessions(LocalPartials(storage, settings.max_concatenations), settings)
    await sessions.sweep()
    async with repeating(sweep_interval, sessions.sweep):
        yield sessions


def sessions_of(request: Request) -> Sessions:
    sessions: Sessions = opened(request.app, "uploads")
    return sessions


def _not_found() -> Problem:
    return Problem(404, "There is no upload with this id.")


def _expired() -> Problem:
    return Problem(410, "The upload has expired.")
