"""The reserve: a folder that is removed to make space when a deletion finds the disk full.

A deletion needs a lock file or two, and the log of the database grows by a few pages. So one that
fails with 507 is repeated with the inodes and the blocks of the reserve.
"""

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ..kernel.problem import Problem
from ..kernel.threads import in_thread
from .catalogue import Catalogue
from .place import NO_SPACE

T = TypeVar("T")
#: Bytes of the reserve: the database grows by that much when its log is written back.
SIZE = 1 << 20
#: How often a deletion is tried with the reserve.
ATTEMPTS = 3


class Reserve:
    """The reserve of one store; all its processes share it."""

    def __init__(self, path: Path) -> None:
        self._folder, self._file = path, path / "space"
        self._turn = asyncio.Lock()
        self._holder: asyncio.Task[object] | None = None

    def keep(self) -> None:
        """Create the folder, and its file if there is space for it; blocking."""
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            self._file.touch()
            missing = SIZE - self._file.stat().st_size
            if 0 < missing <= shutil.disk_usage(self._folder).free:
                self._file.write_bytes(os.urandom(SIZE))  # Random, since zeros may take no space.

    def spend(self) -> None:
        """Remove the folder, which frees two inodes; blocking."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def spend_if_full(self) -> None:
        """Remove the folder if the disk has no space or no inode left; blocking."""
        disk = self._folder.parent
        inodes = 1
        if sys.platform != "win32":
            inodes = os.statvfs(disk).f_favail
        if shutil.disk_usage(disk).free < SIZE or not inodes:
            self.spend()

    async def used_for(self, deletion: Callable[[], Awaitable[T]], catalogue: Catalogue) -> T:
        """Run a deletion; if it raises Problem 507, spend the reserve and run it again.

        Only one at a time has the reserve, which is renewed afterwards if possible.
        """
        task = asyncio.current_task()
        if self._holder not in (None, task):
            async with self._turn:  # Its deletion needs the space of the reserve.
                pass
        try:
            return await deletion()
        except Problem as problem:
            if problem.type is not NO_SPACE or self._holder is task:
                raise
        async with self._turn:
            self._holder = task
            try:
                return await self._spend_for(deletion, catalogue)
            finally:
                self._holder = None
                await in_thread(None, self.keep)

    async def _spend_for(self, deletion: Callable[[], Awaitable[T]], catalogue: Catalogue) -> T:
        for _ in range(ATTEMPTS - 1):
            await in_thread(None, self.spend)
            # The log starts again at its beginning.
            with suppress(sqlite3.OperationalError, Problem):
                await catalogue.write("PRAGMA wal_checkpoint(PASSIVE)", anywhere=True)
            try:
                return await deletion()
            except Problem as problem:
                if problem.type is not NO_SPACE:
                    raise
            # Deletions that began before have taken the space, and will soon have freed more.
            await asyncio.sleep(0.1)
        return await deletion()
