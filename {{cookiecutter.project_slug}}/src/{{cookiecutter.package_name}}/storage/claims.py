"""Claims: who works on an id, known to every process and forgotten by none that dies.

A claim is a locked file. The kernel drops the lock when its process ends, however it ends, so an
unlocked claim means that its work was cut short and must be reconciled.
"""

import asyncio
import os
import sys
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ..streaming import complete

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Claim:
    """The sole right to change what belongs to one id."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    @classmethod
    def take(cls, path: Path) -> "Claim | None":
        """Claim a path; None when somebody else holds it."""
        file = path.open("ab", buffering=0)
        try:
            _lock(file.fileno())
            # Locked, but is it still the file of that name? Its last holder may have removed it.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return cls(path, file)
        except OSError:
            pass
        file.close()
        return None

    @classmethod
    async def take_in_thread(cls, threads: Executor, path: Path) -> "Claim | None":
        """Claim a path without blocking; a cancellation meanwhile gives it back."""
        taking = asyncio.get_running_loop().run_in_executor(threads, cls.take, path)
        try:
            return await complete(taking)
        except asyncio.CancelledError:
            if taking.exception() is None and (claim := taking.result()) is not None:
                claim.release()
            raise

    def release(self) -> None:
        """Give the claim up: its work is done or undone."""
        if sys.platform != "win32":
            self._path.unlink(missing_ok=True)
        self._file.close()
        if sys.platform == "win32":  # Windows removes no open file.
            with suppress(OSError):
                self._path.unlink()

    def abandon(self) -> None:
        """Leave the work to whoever sweeps next."""
        self._file.close()
