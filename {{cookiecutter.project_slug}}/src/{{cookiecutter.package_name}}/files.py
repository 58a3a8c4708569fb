"""Callbacks for files; the class `Callbacks` documents when each of them is called."""

import logging

from .engine.storage import Callbacks, Draft, FileRecord

logger = logging.getLogger(__name__)


def accept(draft: Draft, head: bytes) -> None:
    """Check the first bytes of a file; raise a Problem to reject it.

    `APP_UPLOAD__ALLOWED_TYPES` sets the allowed media types; other rules belong here.
    """


async def on_stored(record: FileRecord) -> None:
    """Handle a new file. Must be idempotent: it is called again after a failure or a crash."""
    logger.info("stored %s: %d bytes", record.id, record.size)


async def on_deleted(record: FileRecord) -> None:
    """Clean up after a file has been deleted."""
    logger.info("deleted %s", record.id)


callbacks = Callbacks(accept=accept, on_stored=on_stored, on_deleted=on_deleted)
