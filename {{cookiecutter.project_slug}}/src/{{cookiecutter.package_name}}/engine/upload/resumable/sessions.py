"""Sessions: exclusive access to one upload for the duration of one request.

The newest request takes precedence: it ends the request that is receiving a body for the same
upload, in any process, and continues after the last byte that was received. So a client that
reconnects never waits for its own dead connection, and the offset that it gets is valid for its
next request. If the upload stays busy, for example while its file is inspected, the response is 423
(tus) or 503 (the IETF draft).
"""

import asyncio
import functools
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastapi import Request

from ...kernel.body import TOO_LARGE, RequestBody
from ...kernel.exchange import Outcome
from ...kernel.kernel import BOUNDS
from ...kernel.origins import base_of
from ...kernel.part import opened
from ...kernel.problem import Problem, ProblemType
from ...kernel.threads import complete
from ...storage.interface import Writer
from ...storage.partials import Claim, Partial, Partials
from ...storage.records import FileRecord, checked_id
from ...storage.router import file_url
from ...streams.clock import expiry_time
from ...streams.content import refuse_coding
from ..metadata import owns
from .settings import ResumableUploadSettings

logger = logging.getLogger(__name__)

BUSY = ProblemType(
    "upload-busy",
    "Another request works on this upload",
    "Only one request at a time may use an upload, and this request waited too long for another"
    " one. Get the offset after the seconds in `Retry-After`, and continue from there. Clients of"
    " the IETF draft get status 503.",
)
TAKEN_OVER = ProblemType(
    "upload-taken-over",
    "A newer request works on this upload",
    "A newer request for the same upload has replaced this one. The bytes that this request sent"
    " are kept. Let the newer request continue.",
)
TOO_MANY = ProblemType(
    "too-many-uploads",
    "Too many uploads are unfinished",
    "The number of unfinished uploads is limited, for all clients together (503) and for each of"
    " them (429), so this one was not created. A client is an authenticated user, or an address."
    " Finish or delete others, or try again after the seconds in `Retry-After`.",
)

_NOT_FOUND = "There is no upload with this id."
_EXPIRED = "The upload has expired."

#: Seconds in which an interrupted request may still receive what its client has sent.
GRACE = 0.05
#: Seconds for which a request waits for a busy upload.
PATIENCE = 5.0
#: Seconds between checks for a newer request while a body is received.
CHECK_EVERY = 0.05


class Check(Protocol):
    """Verifies the bytes of one request: a Digester, or the Checksum of tus."""

    def update(self, data: bytes | memoryview) -> None:
        """Hash the next bytes."""

    def verify(self) -> None:
        """Raise Problem when the bytes do not match."""


#: Called with the offset each time that INFORM_EVERY bytes have been written.
Inform = Callable[[int], Awaitable[object]]
INFORM_EVERY = 8 << 20


class Interrupted(Problem):
    """The request was ended; its bytes are kept, and the client should continue.

    Clients continue when their connection breaks and after a 5xx; after a 408 they give up. So the
    connection is closed without a response; servers that cannot do that send this one.
    """

    def __init__(self, reason: Problem, outcome: Outcome) -> None:
        super().__init__(503, reason.detail, type=reason.type, headers={"Retry-After": "1"})
        self.reason = reason
        self.outcome = outcome


@dataclass
class _UploadLock:
    """The lock of one upload in this process; `requests` counts its holder and those that wait."""

    requests: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                await self.lock.acquire()
        except TimeoutError:
            raise _busy() from None
        try:
            yield
        finally:
            self.lock.release()


@dataclass
class Session:
    """One upload, held by one request."""

    partials: Partials
    lock: _UploadLock
    claim: Claim
    max_size: int
    partial: Partial
    #: The file, once the upload is complete.
    record: FileRecord | None
    #: Bytes received so far.
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
        check: Check | None,
        inform: Inform | None = None,
    ) -> None:
        """Append a body, and store `length` as the length of the upload.

        The bytes of an incomplete body are kept, unless it has a `check`. No byte is kept of a body
        that exceeds its limit or fails its check. An upload that `completes` becomes a file with
        its last byte. Raises Interrupted when the body stalls or a newer request takes over.
        """
        if self.record is not None:
            # The response to the last byte may have been lost: the client repeats an empty body.
            await self._write(body, None)
            return
        start, known = self.offset, self.partial.length
        if check or length != known:
            await self._change(length=length, rollback=start if check else None)
        try:
            tap = check.update if check else None
            async with self.partials.open(self.partial, start, tap) as writer:
                try:
                    await self._write(body, writer, inform)
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
                await complete(self.undo(start, known))
            raise

    async def finish_if_complete(self) -> None:
        """Make a file of an upload that `completes`, if all its bytes or parts are complete."""
        if self.record is not None or not self.partial.completes:
            return
        if self.offset == self.partial.length or await self._concatenate():
            await self.finish()

    async def finish(self, digest: dict[str, str] | None = None) -> FileRecord:
        """Make a file of the bytes so far; the upload is removed when a callback refuses it."""
        if self.record is None:
            async with self.partials.open(self.partial, self.offset) as writer:
                return await self._commit(writer, digest)
        return self.record

    async def discard(self) -> None:
        await complete(self.partials.remove(self.partial.id))

    async def adopt(self, record: FileRecord) -> None:
        """Store that the upload has become this file."""
        self.record, self.offset, self.changed_at = record, record.size, time.time()
        with _logged(record.id):  # The file is stored: the next request tries again.
            await self._change(length=record.size, rollback=None, completed_at=self.changed_at)

    async def _commit(self, writer: Writer, digest: dict[str, str] | None = None) -> FileRecord:
        try:
            record = await self.partials.storage.commit(writer, digest)
        except Problem as problem:
            if problem.status_code < 500:
                await self.discard()
            raise
        await self.adopt(record)
        return record

    async def _change(self, **changes: Any) -> None:
        """Change the state of the upload durably."""
        self.partial = self.partial.model_copy(update=changes)
        await complete(self.partials.save(self.partial))

    async def undo(self, offset: int, length: int | None) -> None:
        """Truncate the upload to `offset`, and restore its length."""
        await self.partials.truncate(self.partial.id, offset)
        self.offset = offset
        if (self.partial.rollback, self.partial.length) != (None, length):
            await self._change(rollback=None, length=length)

    async def _write(
        self, body: RequestBody, writer: Writer | None, inform: Inform | None = None
    ) -> None:
        informed = self.offset
        try:
            async with asyncio.timeout(None) as limit, self._giving_way(limit):
                async for chunk in body:
                    if writer is None:
                        continue  # Never reached: the limit is 0, so any byte raises 413.
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
    async def _giving_way(self, limit: asyncio.Timeout) -> AsyncGenerator[None]:
        """Make the limit expire when a newer request of any process waits for the upload."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def check() -> None:
            nonlocal timer
            if self.lock.requests > 1 or self.claim.is_wanted():
                limit.reschedule(loop.time() + GRACE)
            else:
                timer = loop.call_later(CHECK_EVERY, check)

        check()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    async def _concatenate(self) -> bool:
        """Concatenate the parts of an upload; return False unless all of them are complete."""
        if not self.partial.parts:
            return False
        length, files = 0, await self.partials.received(self.partial.parts)
        for part in self.partial.parts:
            state, _ = await self.partials.load(part)
            size = files[part].size if part in files else None
            if not state or size is None or state.rollback is not None or state.length != size:
                return False
            length += size
        if length > self.max_size:
            await self.discard()
            raise _too_large(self.max_size)
        await self.partials.concatenate(self.partial.id, self.partial.parts, length)
        self.offset = length
        await self._change(length=length)
        return True


class Sessions:
    """All resumable uploads of an application, at `app.state.uploads`."""

    def __init__(self, partials: Partials, settings: ResumableUploadSettings) -> None:
        self.partials = partials
        self._settings = settings
        self._locks: dict[str, _UploadLock] = {}
        #: When the last sweep of this process began, 0 before the first one.
        self._swept_at = 0.0

    async def add(self, partial: Partial) -> None:
        """Create an upload; raises Problem 409, 413, 429, 503 or 507 when a limit is reached."""
        limits = self._settings
        detail, headers = "Too many uploads are unfinished.", {"Retry-After": "60"}
        own = await self.partials.count(partial) if partial.client else 0
        if own >= limits.max_incomplete_per_client:
            BOUNDS["upload.max_incomplete_per_client"] += 1
            raise Problem(429, detail, type=TOO_MANY, headers=headers)
        if await self.partials.count() >= limits.max_incomplete:
            BOUNDS["upload.max_incomplete"] += 1
            raise Problem(503, detail, type=TOO_MANY, headers=headers)
        await self.partials.add(partial)
        if partial.parts and not await self.partials.use(partial, limits.max_reuse):
            await self.partials.remove(partial.id)
            BOUNDS["upload.max_reuse"] += 1
            raise Problem(409, f"A part can be in at most {limits.max_reuse} files.")

    @asynccontextmanager
    async def hold(
        self, upload_id: str, request: Request | None = None, patience: float = PATIENCE
    ) -> AsyncGenerator[Session]:
        """Open an upload exclusively; raises Problem 404 or 410, or 423 when it stays busy.

        With a `request`, the upload must belong to the owner that sent it.
        """
        if request is not None:  # Before the lock, for which the current request would give way.
            found, _ = await self.partials.load(checked_id(upload_id))
            if found is None or not owns(request, found.draft.owner):
                raise Problem(404, _NOT_FOUND)
        asked_at = time.monotonic_ns()
        lock = self._locks.setdefault(checked_id(upload_id), _UploadLock())
        lock.requests += 1
        try:
            with self.partials.storage.working():
                claiming = self.partials.claimed(upload_id, patience, asked_at)
                async with lock.held(), claiming as claim:
                    if claim is None:
                        raise _busy()
                    yield await self._open(upload_id, lock, claim)
        finally:
            lock.requests -= 1
            if not lock.requests:
                del self._locks[upload_id]

    async def _open(self, upload_id: str, lock: _UploadLock, claim: Claim) -> Session:
        partial, record = await self.partials.load(upload_id)
        if partial is None:
            raise Problem(404, _NOT_FOUND)
        if partial.expired_at is not None:
            raise Problem(410, _EXPIRED)
        received = None if record else (await self.partials.received([upload_id])).get(upload_id)
        if record is None and received is None:
            if partial.completed_at is None:
                record = await self.partials.recover(partial)
            if record is None:  # Its file was deleted, or a power cut lost its bytes.
                raise Problem(404, _NOT_FOUND)
        changed_at = partial.completed_at or (received.changed_at if received else time.time())
        if self.expires_at(changed_at) < expiry_time():
            raise Problem(410, _EXPIRED)
        offset = record.size if record else received.size if received else 0
        size = self._settings.max_size
        session = Session(self.partials, lock, claim, size, partial, record, offset, changed_at)
        if record is None and partial.rollback is not None:
            # An earlier request left bytes whose digest was never checked.
            await complete(session.undo(min(partial.rollback, offset), partial.length))
        elif record is not None and partial.completed_at is None:
            await session.adopt(record)
        return session

    def expires_at(self, changed_at: float) -> float:
        """Return when an upload expires, from when it last changed; seconds since the epoch."""
        return changed_at + self._settings.expire_after

    async def finish_wholes(self, part: str) -> None:
        """Make files of the uploads that were waiting for this part."""
        for partial in await self.partials.waiting_for(part):
            await self._finish(partial)

    async def sweep(self) -> None:
        """Finish uploads that a crash interrupted and expire old ones; one process does it for all.

        The row of an expired upload is kept for `expire_after`, so that requests get 410.
        """
        if not self.partials.storage.place.is_up():
            return  # The directory is missing, was replaced or cannot be written.
        async with AsyncExitStack() as stack:
            leads: object = True  # Without an inode for its claim, each process sweeps.
            # The process before this one may have died during its sweep.
            patience = 0 if self._swept_at else self.partials.sweep_patience
            with suppress(Problem):
                leads = await stack.enter_async_context(self.partials.claimed("sweep", patience))
            if leads:
                await self._finish_all()
                await self.partials.catch_up()
                await self._expire_all(expiry_time() - self._settings.expire_after)

    async def _expire_all(self, before: float) -> None:
        for upload_id in await self.partials.expired(before):
            with _logged(upload_id):
                expiring = functools.partial(self._expire, upload_id, before)
                await self.partials.storage.freeing(expiring)
        with suppress(Problem):  # The disk is full; the next sweep may have space.
            await self.partials.forget(before)

    async def _expire(self, upload_id: str, before: float) -> None:
        async with self.partials.claimed(upload_id) as claim:
            if claim and await self.partials.expired(before, upload_id):
                await complete(self.partials.expire(upload_id))

    async def _finish_all(self) -> None:
        after, last, now = "", self._swept_at, time.time()
        while page := await self.partials.unfinished(after):
            after = page[-1].id
            due = self.partials.due(page, last, now)
            # Read after the page: an upload that is created meanwhile must not seem to be empty.
            files = await self.partials.received([partial.id for partial in due])
            for partial in due:
                file = files.get(partial.id)
                whole = partial.parts or not file or file.size == partial.length
                if whole and partial.id not in self._locks:
                    await self._finish(partial)
        self._swept_at = now

    async def _finish(self, partial: Partial) -> None:
        with _logged(partial.id):
            async with self.hold(partial.id, patience=self.partials.sweep_patience) as session:
                await session.finish_if_complete()


def sessions_of(request: Request) -> Sessions:
    sessions: Sessions = opened(request.app, "uploads")
    return sessions


def uploads_url(request: Request) -> str:
    """Return the absolute URL of `/uploads`: some clients do not resolve relative ones."""
    return base_of(request.scope) + "/uploads"


def resource_headers(request: Request, session: Session) -> dict[str, str]:
    """Return the headers that describe an upload in both protocols."""
    headers = {"Cache-Control": "no-store"}
    if session.length is not None:
        headers["Upload-Length"] = str(session.length)
    if session.record:
        headers["Content-Location"] = urlsplit(file_url(request, session.record.id)).path
    return headers


def check_media_type(request: Request, media_type: str) -> None:
    """Raise Problem 415 for an append that does not have the media type of its protocol."""
    refuse_coding(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != media_type:
        raise Problem(415, f"Send the bytes as {media_type}.", headers={"Accept-Patch": media_type})


def body_of(request: Request, length: int | None, start: int = 0) -> RequestBody:
    """Return the body of a request, limited to the rest of an upload of this length from `start`.

    Raises Problem 413 when the length exceeds the limit.
    """
    limit: int = request.app.state.settings.upload.max_size
    if length is not None and length > limit:
        raise _too_large(limit)
    return RequestBody(request, (limit if length is None else length) - start)


@contextmanager
def _logged(upload_id: str) -> Generator[None]:
    """Log a failure, so that it does not stop the work on other uploads, or the start."""
    try:
        yield
    except Problem as problem:
        logger.info("Upload %s: %s", upload_id, problem.detail)
    except Exception:
        logger.exception("Upload %s cannot be finished", upload_id)


def _busy() -> Problem:
    # Another connection may reach the process that works on the upload.
    headers = {"Retry-After": "1", "Connection": "close"}
    return Problem(423, "Another request works on this upload.", type=BUSY, headers=headers)


def _too_large(limit: int) -> Problem:
    return Problem(413, f"A file may have at most {limit} bytes.", type=TOO_LARGE, limit=limit)
