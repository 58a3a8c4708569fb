"""What happens to files when they come and go; `Callbacks` says when each function is called."""

import logging

from .engine.storage import Callbacks, Draft, FileRecord

logger = logging.getLogger(__name__)


def accept(draft: Draft, head: bytes) -> None:
    """Look at the first bytes of a file; raise a Problem to refuse it.

    `APP_UPLOAD__ALLOWED_TYPES` has the media types that are stored; this is for rules of your own.
    """


async def on_stored(record: FileRecord) -> None:
    """Do something about a new file; called again after a crash."""
    logger.info("stored %s: %d bytes", record.id, record.size)


async def on_deleted(record: FileRecord) -> None:
    """Forget what you know of a file."""
    logger.info("deleted %s", record.id)


callbacks = Callbacks(accept=accept, on_stored=on_stored, on_deleted=on_deleted)
