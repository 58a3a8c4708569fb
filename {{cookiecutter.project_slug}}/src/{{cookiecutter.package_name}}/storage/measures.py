"""What metrics read of a store."""

import shutil
from typing import TYPE_CHECKING

from ..streaming import Kernel, Measure

if TYPE_CHECKING:
    from .local import LocalStorage


def offer_measures(storage: "LocalStorage", kernel: Kernel | None) -> None:
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
