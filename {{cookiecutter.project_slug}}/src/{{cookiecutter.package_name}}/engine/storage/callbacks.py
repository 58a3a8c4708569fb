"""What the service does when files come and go: plain callables, given to `Files`."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .records import Draft, FileRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Callbacks:
    """Functions that are called when files come and go; all are optional.

    `Files` takes any number of these, and calls the functions of each in turn.
    """

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


def combined(callbacks: Sequence[Callbacks]) -> Callbacks:
    """Return callbacks that call all of these; raises ValueError when two of them inspect."""
    inspect = _given(callbacks, "inspect")
    if len(inspect) > 1:
        raise ValueError("a file can be inspected once: give one `inspect`")
    accept = _given(callbacks, "accept")

    def accept_all(draft: Draft, head: bytes) -> None:
        for each in accept:
            each(draft, head)

    return Callbacks(
        accept_all if accept else None,
        inspect[0] if inspect else None,
        _all(_given(callbacks, "on_progress")),
        _all(_given(callbacks, "on_stored")),
        _all(_given(callbacks, "on_deleted")),
    )


def _given(callbacks: Sequence[Callbacks], name: str) -> list[Callable[..., Any]]:
    return [each for one in callbacks if (each := getattr(one, name)) is not None]


def _all(callbacks: list[Callable[..., Any]]) -> Callable[..., Awaitable[None]] | None:
    """Call all of them, also when one fails."""
    if len(callbacks) < 2:
        return callbacks[0] if callbacks else None

    async def call(*arguments: object) -> None:
        errors: list[Exception] = []
        for each in callbacks:
            try:
                await each(*arguments)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    return call


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
