"""Whether there is room for a file: in its owner's quota, and on the disk."""

import asyncio
import errno
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from ..kernel.problem import Problem, ProblemType
from .catalogue import Catalogue
from .place import NO_SPACE
from .records import Draft
from .settings import StorageSettings

QUOTA = ProblemType(
    "quota-exceeded",
    "The quota is exceeded",
    "All files of one owner may have `limit` bytes together, and this one would be too much."
    " Delete others first.",
)


class Room:
    """The room of one directory; quotas are kept within a process, and roughly between several."""

    def __init__(self, root: Path, settings: StorageSettings, catalogue: Catalogue) -> None:
        self.quota = settings.quota
        self._root = root
        self._keep_free = settings.keep_free
        self._catalogue = catalogue
        self._quota_turn = asyncio.Lock()

    @asynccontextmanager
    async def within_quota(self, draft: Draft, size: int) -> AsyncGenerator[None]:
        """Store a file of `size` bytes; raises Problem 413 when it exceeds the owner's quota."""
        if self.quota is None:
            yield
            return
        async with self._quota_turn:  # Else two files might take what is left at once.
            await self.check_quota(draft, size)
            yield

    async def check_quota(self, draft: Draft, size: int) -> None:
        """Raise Problem 413 when `size` more bytes exceed the owner's quota."""
        quota = self.quota
        if quota and await self._catalogue.stored_bytes(draft.owner) + size > quota:
            detail = f"All files together may have at most {quota} bytes."
            raise Problem(413, detail, type=QUOTA, limit=quota)

    def check_space(self, size: int) -> None:
        """Raise Problem 507 when the disk has no room for `size` more bytes; blocking."""
        if shutil.disk_usage(self._root).free - self._keep_free < size:
            raise Problem(507, "There is not enough space to store the file.", type=NO_SPACE)

    def check_reserve(self) -> None:
        """Raise OSError as of a full disk when no more than the reserve is left; blocking."""
        if shutil.disk_usage(self._root).free < self._keep_free:
            raise OSError(errno.ENOSPC, "what is left of the disk is to be kept free")
