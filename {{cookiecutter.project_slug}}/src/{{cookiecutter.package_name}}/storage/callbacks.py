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
        await _call(self.on_progress, file_id, file_id, size)

    async def stored(self, record: FileRecord) -> bool:
        """Return whether the callback did its work; else it is to be called again."""
        return await _call(self.on_stored, record.id, record)

    async def deleted(self, record: FileRecord) -> None:
        await _call(self.on_deleted, record.id, record)


async def _call(
    callback: Callable[..., Awaitable[None]] | None, file_id: str, *arguments: object
) -> bool:
    """Call a callback, if there is one; a failure is logged, and told by False."""
    try:
        if callback is not None:
            await callback(*arguments)
    except Exception:
        logger.exception("%r failed for %s", callback, file_id)
        return False
    return True
