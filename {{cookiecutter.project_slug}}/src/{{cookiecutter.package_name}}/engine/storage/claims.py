"""Claims: locks on ids, which all processes see and which end with the process that holds them.

A claim is a locked file. The kernel releases the lock when its process ends, so an unlocked claim
means that its work was interrupted and must be reconciled.

A process can ask for a claim that another holds: it sets the modification time of the file to the
time of its request. The holder can compare that with its own request.
"""

import asyncio
import errno
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from ..kernel.threads import complete, in_thread
from .records import new_id

#: Random ids to try for a new claim, since a sweep can briefly hold one of them.
TRIES = 5
#: Errors when another process holds a lock, or has just removed its file. After any other error
#: nothing can be claimed at all.
TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.ENOENT}

T = TypeVar("T")

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def acquire(threads: Executor, take: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Return the result of `take` in a thread; if cancelled, wait for it and call `undo`."""
    taking = asyncio.get_running_loop().run_in_executor(threads, take)
    try:
        return await complete(taking)
    except asyncio.CancelledError:
        if not taking.cancelled() and taking.exception() is None:
            await in_thread(threads, undo, taking.result())
        raise


class Claim:
    """The exclusive right to change the files and records of one id."""

    #: The time of the request for which it was taken.
    _asked_at = 0

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.id = path.stem
        self._file = file

    @classmethod
    def take(cls, path: Path) -> "Claim | None":
        """Claim a path; return None when another task or process holds it.

        Raises OSError where the file system cannot lock, and leaves no new file there.
        """
        try:
            file, is_new = path.open("xb", buffering=0), True
        except FileExistsError:
            file, is_new = path.open("ab", buffering=0), False
        try:
            _lock(file.fileno())
            # The last holder may have removed the file after it was opened here.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return cls(path, file)
        except OSError as error:
            if error.errno not in TAKEN:
                file.close()
                if is_new:  # Otherwise it may be the claim of another process.
                    path.unlink(missing_ok=True)
                raise
        file.close()
        return None

    @classmethod
    def take_or_ask(cls, path: Path, asked_at: int) -> "Claim | None":
        """Claim a path, or ask its holder for it.

        `asked_at` is in nanoseconds of the monotonic clock, which all processes of a machine share
        and which is never set back.
        """
        claim = cls.take(path)
        with suppress(OSError):  # It was released just now, or belongs to another user.
            if claim is not None or path.stat().st_mtime_ns < asked_at:
                os.utime(path, ns=(asked_at, asked_at))
        if claim is not None:
            claim._asked_at = os.fstat(claim._file.fileno()).st_mtime_ns
        return claim

    @classmethod
    async def take_in_thread(
        cls, threads: Executor, path: Path, asked_at: int | None = None
    ) -> "Claim | None":
        """Take or ask for a claim in a thread; a cancellation releases it."""
        take = cls.take if asked_at is None else partial(cls.take_or_ask, asked_at=asked_at)
        return await acquire(threads, partial(take, path), _release)

    @classmethod
    def new(cls, folder: Path) -> "Claim":
        """Claim a new id; raises OSError where the file system cannot lock."""
        for _ in range(TRIES):
            if claim := cls.take(folder / f"{new_id()}.lock"):
                return claim
        raise OSError(errno.ENOLCK, "no new file can be locked", str(folder))

    def is_wanted(self) -> bool:
        """Whether a newer request has asked for a claim that was taken with `take_or_ask`."""
        return os.fstat(self._file.fileno()).st_mtime_ns > self._asked_at

    def release(self) -> None:
        """Release the claim after its work was finished or undone.

        If the file cannot be removed, it is unlocked and the sweep removes it.
        """
        if sys.platform == "win32":  # Windows cannot remove an open file.
            self._file.close()
        with suppress(OSError):
            self.path.unlink()
        self._file.close()

    def abandon(self) -> None:
        """Unlock the claim but keep its file, so that the next sweep reconciles it."""
        self._file.close()


def _release(claim: Claim | None) -> None:
    if claim is not None:
        claim.release()


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
