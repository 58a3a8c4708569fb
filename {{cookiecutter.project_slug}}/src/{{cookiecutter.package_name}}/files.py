"""What happens to files when they come and go; `Callbacks` says when each function is called."""

import logging

from .engine.storage import Callbacks, Draft, FileRecord

logger = logging.getLogger(__name__)


def accept(draft: Draft, head: bytes) -> None:
    """Look at the first bytes of a file; raise a Problem to refuse it.

    `APP_UPLOAD__ALLOWED_TYPES` sets the allowed media types; other rules belong here.
    """


async def on_stored(record: FileRecord) -> None:
    """Handle a new file. It is called again after a crash, so a second call must do no harm."""
    logger.info("stored %s: %d bytes", record.id, record.size)


async def on_deleted(record: FileRecord) -> None:
    """Clean up after a file that was deleted."""
    logger.info("deleted %s", record.id)


callbacks = Callbacks(accept=accept, on_stored=on_stored, on_deleted=on_deleted)
