"""What the service does about files: plain callables, registered in `app.py`."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from .records import Draft, FileRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Callbacks:
    """All of them are optional."""

    #: Looks at the first bytes (up to 4 KiB) of a file; raises Problem to refuse it.
    accept: Callable[[Draft, bytes], None] | None = None
    #: Looks at a whole file before anybody else can see it. The file becomes visible when this
    #: returns; when it raises Problem, that is the answer and the bytes go into quarantine.
    inspect: Callable[[FileRecord, AsyncIterator[bytes]], Awaitable[None]] | None = None
    #: Called with the id and the bytes so far, once per block; the upload waits for it.
    on_progress: Callable[[str, int], Awaitable[None]] | None = None
    #: Called when a file is stored, before its client is told. At least once: after a failure or
    #: a crash it is called again, so it must not mind a second call.
    on_stored: Callable[[FileRecord], Awaitable[None]] | None = None
    #: Called when a file has been deleted; at most once, as nothing is left to repeat it from.
    on_deleted: Callable[[FileRecord], Awaitable[None]] | None = None

    async def progress(self, file_id: str, size: int) -> None:
        if self.on_progress:
            try:
                await self.on_progress(file_id, size)
            except Exception:
                logger.exception("on_progress failed for %s", file_id)

    async def stored(self, record: FileRecord) -> bool:
        """Return whether the callback did its work."""
        try:
            if self.on_stored:
                await self.on_stored(record)
        except Exception:
            logger.exception("on_stored failed for %s; it will be called again", record.id)
            return False
        return True

    async def deleted(self, record: FileRecord) -> None:
        try:
            if self.on_deleted:
                await self.on_deleted(record)
        except Exception:
            logger.exception("on_deleted failed for %s", record.id)
