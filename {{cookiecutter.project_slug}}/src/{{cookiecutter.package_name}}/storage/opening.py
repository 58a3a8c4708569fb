"""Open the store of the settings, and sweep it and watch its place while it is open."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..settings import StorageSettings
from ..streaming import Kernel, repeating
from .callbacks import Callbacks
from .local import LocalStorage
from .measures import offer_measures
from .place import LOOK_SECONDS


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
