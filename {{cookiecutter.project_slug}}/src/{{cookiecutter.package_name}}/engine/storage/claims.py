"""Claims: who works on an id, known to every process and forgotten by none that dies.

A claim is a locked file. The kernel drops the lock when its process ends, however it ends, so an
unlocked claim means that its work was cut short and must be reconciled.

Who wants a claim that another process holds can ask for it: the time of modification of the file is
that at which the newest request for it was made. The holder looks at it, and decides what to do.
"""

import asyncio
import errno
import os
import sys
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..kernel.threads import complete
from .records import new_id

#: Random ids that are tried for a new claim: a sweep may hold one for a moment, never several.
TRIES = 5
#: What it means that another holds a lock, or has just removed its file. After any other error
#: nothing can be claimed, however often it is tried.
TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.ENOENT}

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

    _asked_at = 0

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    @classmethod
    def take(cls, path: Path) -> "Claim | None":
        """Claim a path; None when another task or process holds it.

        Raises OSError where the file system cannot lock, and leaves no file of its own there.
        """
        try:
            file, is_new = path.open("xb", buffering=0), True
        except FileExistsError:
            file, is_new = path.open("ab", buffering=0), False
        try:
            _lock(file.fileno())
            # Locked, but is it still the file of that name? Its last holder may have removed it.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return cls(path, file)
        except OSError as error:
            if error.errno not in TAKEN:
                file.close()
                if is_new:  # Else it may be the claim of another, who locked it when that worked.
                    path.unlink(missing_ok=True)
                raise
        file.close()
        return None

    @classmethod
    def new(cls, folder: Path) -> "tuple[str, Claim]":
        """Claim an id that is in use nowhere; raises OSError where the file system cannot lock."""
        for _ in range(TRIES):
            file_id = new_id()
            if claim := cls.take(folder / f"{file_id}.lock"):
                return file_id, claim
        raise OSError(errno.ENOLCK, "no new file can be locked", str(folder))

    @classmethod
    def take_or_ask(cls, path: Path, asked_at: int) -> "Claim | None":
        """Claim a path, or ask for it; `asked_at` is in nanoseconds of the monotonic clock.

        All processes of a machine share that clock, and nobody sets it back.
        """
        claim = cls.take(path)
        with suppress(OSError):  # Its holder has just released it, or is of another user.
            if claim is not None or path.stat().st_mtime_ns < asked_at:
                os.utime(path, ns=(asked_at, asked_at))
        if claim is not None:
            claim._asked_at = os.fstat(claim._file.fileno()).st_mtime_ns
        return claim

    def is_wanted(self) -> bool:
        """Whether a newer request has asked for a claim that was taken with `take_or_ask`."""
        return os.fstat(self._file.fileno()).st_mtime_ns > self._asked_at

    @classmethod
    async def take_in_thread(
        cls, threads: Executor, path: Path, asked_at: int | None = None
    ) -> "Claim | None":
        """Claim a path without blocking, or ask; a cancellation meanwhile gives it back."""
        take = cls.take if asked_at is None else partial(cls.take_or_ask, asked_at=asked_at)
        taking = asyncio.get_running_loop().run_in_executor(threads, take, path)
        try:
            return await complete(taking)
        except asyncio.CancelledError:
            if taking.exception() is None and (claim := taking.result()) is not None:
                claim.release()
            raise

    def release(self) -> None:
        """Give the claim up: its work is done or undone.

        A file that cannot be removed is no claim once it is unlocked, and left for the sweep.
        """
        if sys.platform == "win32":  # It removes no open file.
            self._file.close()
        with suppress(OSError):
            self._path.unlink()
        self._file.close()

    def abandon(self) -> None:
        """Leave the work to whoever sweeps next."""
        self._file.close()


def check_locks(folder: Path) -> None:
    """Raise OSError when the file system has no locks, or locks that do not exclude others."""
    path = folder / f"probe-{new_id()}.lock"
    try:
        claim = Claim.take(path)
    except OSError as error:
        raise OSError(error.errno, f"files cannot be locked ({error.strerror})") from error
    again = Claim.take(path)
    for taken in filter(None, (claim, again)):
        taken.release()
    path.unlink(missing_ok=True)
    if claim is None or again is not None:
        raise OSError(errno.ENOLCK, "files cannot be locked (a lock does not exclude others)")
