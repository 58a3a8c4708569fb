"""Whether the directory of the settings can be a store; asked before the server listens."""

import asyncio
import sqlite3
import sys

from ..settings import Settings
from .callbacks import Callbacks
from .local import LocalStorage


def check_storage(settings: Settings) -> None:
    """End the process with one line that names the directory and the reason when it cannot."""
    try:
        asyncio.run(_open_and_close(settings))
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"APP_STORAGE__URL: {settings.storage.url} cannot be used: {reason}")


async def _open_and_close(settings: Settings) -> None:
    await LocalStorage(settings.storage, Callbacks()).close()
