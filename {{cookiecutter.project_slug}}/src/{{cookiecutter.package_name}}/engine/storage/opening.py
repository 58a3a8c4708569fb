"""Open the store of the settings, and sweep it and watch its place while it is open."""

import asyncio
import shutil
import sqlite3
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..kernel.kernel import Kernel, Measure
from ..kernel.threads import repeating
from .callbacks import Callbacks
from .local import LocalStorage
from .place import LOOK_SECONDS
from .settings import StorageSettings


@asynccontextmanager
async def open_storage(
    settings: StorageSettings, callbacks: Callbacks | None = None, kernel: Kernel | None = None
) -> AsyncGenerator[LocalStorage]:
    """Open the store that the settings name, recover what a crash left, and keep sweeping."""
    storage = LocalStorage(settings, callbacks or Callbacks())
    offer_measures(storage, kernel)
    await storage.recover()
    try:
        async with (
            repeating(LOOK_SECONDS, storage.look),
            repeating(settings.sweep_interval, storage.sweep),
        ):
            yield storage
    finally:
        await storage.close()


def check_storage(settings: StorageSettings) -> None:
    """End the process with one line that names the directory and the reason when it cannot."""
    try:
        asyncio.run(_open_and_close(settings))
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"APP_STORAGE__URL: {settings.url} cannot be used: {reason}")


async def _open_and_close(settings: StorageSettings) -> None:
    await LocalStorage(settings, Callbacks()).close()


def offer_measures(storage: LocalStorage, kernel: Kernel | None) -> None:
    """Offer the figures of a store to who watches the service, if there is one."""
    if kernel is None:
        return

    kernel.checks["storage"] = storage.place.is_up

    def free() -> float:
        return shutil.disk_usage(storage.root).free

    def files() -> dict[str, float]:
        return dict(storage.catalogue.counts)

    def buffered() -> float:
        return storage.buffered

    kernel.measures += [
        Measure("storage_free_bytes", "Free bytes of the disk.", "max", free),
        Measure("storage_files", "Files by what became of them.", "counter", files, "event"),
        Measure("storage_buffered_bytes", "Taken, and not yet written.", "sum", buffered),
    ]
