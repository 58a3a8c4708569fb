"""The directory of a store: whether it still exists, is writable and has space.

While the service runs, a directory can be moved, deleted, or covered by another mount. Open files
still work then, but the path leads elsewhere, and after a restart everything written meanwhile is
missing. So every write compares identities (device and inode) before it is acknowledged, and the
service is not ready until the path leads to the same files again. If the path leads to another
store, that is not opened, since its claims and rows are unknown here; a restart opens it.

A full disk leaves the service ready: uploads get 507, downloads and deletions still work.
"""

import errno
import logging
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..kernel.problem import FULL_DISK, Problem, ProblemType
from .records import new_id

#: Seconds between two checks of the paths, and the duration at which a check counts as failed.
LOOK_SECONDS = 1.0
HUNG_SECONDS = 30.0
#: The `Retry-After` of a refused request, in seconds.
RETRY_AFTER = 10
#: Bytes that are written to find out whether a quota of the disk is exhausted.
QUOTA_PROBE = 64 << 10
#: The beginning of the name of a file that is only moved through the folders.
PROBE = "probe-"
#: Errors of a disk that cannot be written at all, whichever file was written.
BROKEN = {errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE}
BROKEN_DATABASE = {
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
}

NO_SPACE = ProblemType(
    "no-space",
    "There is no space left",
    "The request is valid, but the disk of the service has too little free space for it. Try again"
    " later. A resumable upload keeps the bytes that were received.",
)
UNAVAILABLE = ProblemType(
    "storage-unavailable",
    "The storage is not available",
    "The directory of the files is missing, its disk cannot be written, or another process has"
    " locked the records. Nothing was stored or deleted. Try again after the seconds in"
    " `Retry-After`.",
)

logger = logging.getLogger(__name__)


class Place:
    """The paths of one store: where they led when the store was opened, and free space."""

    def __init__(self, root: Path, keep_free: int) -> None:
        """`keep_free` bytes of the disk are reserved."""
        self._root = root
        self._keep_free = keep_free
        self._identities: dict[Path, tuple[int, int]] = {}
        self._held: list[int] = []
        self._is_there = True
        #: Whether a write has failed, and none has succeeded since.
        self._is_broken = False
        self._error: Exception | None = None
        self._looking_since: float | None = None

    def watch(self, *paths: Path) -> None:
        """Remember the identities of these paths; blocking."""
        for path in paths:
            if sys.platform != "win32" and path.is_dir():
                # Held open, so that no other directory can get its inode.
                self._held.append(os.open(path, os.O_RDONLY))
            stat = path.stat()
            self._identities[path] = stat.st_dev, stat.st_ino

    def is_up(self) -> bool:
        """Whether the last check and all writes since have succeeded."""
        since = self._looking_since
        hangs = since is not None and time.monotonic() > since + HUNG_SECONDS
        return self._is_there and not self._is_broken and not hangs

    def holds(self) -> bool:
        """Whether every path still leads to the same file; blocking."""
        is_there = True
        try:
            for path, identity in self._identities.items():
                stat = path.stat()
                is_there = is_there and (stat.st_dev, stat.st_ino) == identity
        except OSError:
            is_there = False
        if is_there is not self._is_there:
            self._is_there = is_there
            if is_there:
                logger.warning("The storage is back at its path")
            else:
                logger.error("The storage is not at its path any more: writes are refused")
        return is_there

    def check(self) -> None:
        """Raise Problem 503 when a path leads elsewhere, or records are missing; blocking."""
        if not self.holds() or self._error is not None:
            raise unavailable()

    def look(self, *, write: bool = False, error: Exception | None = None) -> bool:
        """Compare the paths, and try to write if asked to or a write has failed; blocking.

        `error` is that of the records; until there is none, writes are refused.
        """
        self._looking_since = time.monotonic()
        self._error = error
        try:
            if error is not None:
                self._fail(error)
            elif self.holds() and (write or self._is_broken):
                self._try_to_write()
        finally:
            self._looking_since = None
        return self.is_up()

    def check_space(self, size: int = 0) -> None:
        """Raise Problem 507 when the disk has no space for `size` more bytes; blocking."""
        if shutil.disk_usage(self._root).free - self._keep_free < size:
            raise Problem(507, "There is not enough space to store the file.", type=NO_SPACE)

    @contextmanager
    def guarding(self) -> Generator[None]:
        """Turn errors of the disk into problems: 507 when it is full, 503 when it is broken."""
        try:
            yield
        except (OSError, sqlite3.DatabaseError) as error:
            if is_full(error) or self._lacks_quota(error):
                raise Problem(507, "There is not enough space left.", type=NO_SPACE) from error
            if isinstance(error, OSError):
                is_broken = error.errno in BROKEN
            else:
                is_broken = _code(error) in BROKEN_DATABASE
            if is_broken:
                self._fail(error)
            elif not is_busy(error) and (not isinstance(error, FileNotFoundError) or self.holds()):
                raise
            raise unavailable() from error

    def close(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _try_to_write(self) -> None:
        try:
            with tempfile.TemporaryFile(dir=self._root, buffering=0) as file:
                file.write(b"x")
                os.fsync(file.fileno())
        except OSError as error:
            if not is_full(error):
                self._fail(error)
                return
        if self._is_broken:
            self._is_broken = False
            logger.warning("The storage can be used again")

    def _lacks_quota(self, error: OSError | sqlite3.DatabaseError) -> bool:
        """Whether a quota of the disk stopped SQLite, which reports that like a broken disk."""
        code = sqlite3.SQLITE_IOERR_WRITE
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == code:
            try:
                with tempfile.TemporaryFile(dir=self._root, buffering=0) as file:
                    file.write(bytes(QUOTA_PROBE))
            except OSError as probed:
                return is_full(probed)
        return False

    def _fail(self, error: Exception) -> None:
        if not self._is_broken:
            self._is_broken = True
            logger.error("The storage cannot be used: %s", error)


def check_moves(*folders: Path) -> None:
    """Raise OSError when a file cannot be moved from each of these folders to the next."""
    folder = folders[0]
    path = folders[0] / f"{PROBE}{new_id()}"
    try:
        path.touch(exist_ok=False)
        for folder in folders[1:]:
            path = path.replace(folder / path.name)
    except OSError as error:
        if error.errno in FULL_DISK:
            return  # A service starts on a full disk, so that files can be deleted.
        if error.errno != errno.EXDEV:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        text = f"{folder} is on another volume than {path.parent}, so files cannot be moved there"
        raise OSError(errno.EXDEV, text) from error
    finally:
        path.unlink(missing_ok=True)


def unavailable() -> Problem:
    headers = {"Retry-After": str(RETRY_AFTER)}
    return Problem(503, "The storage is not available.", type=UNAVAILABLE, headers=headers)


def is_full(error: OSError | sqlite3.DatabaseError) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL_DISK
    return _code(error) == sqlite3.SQLITE_FULL


def is_busy(error: OSError | sqlite3.DatabaseError) -> bool:
    """Whether another process has locked the catalogue."""
    return not isinstance(error, OSError) and _code(error) == sqlite3.SQLITE_BUSY


def _code(error: sqlite3.DatabaseError) -> int:
    # Errors of Python's module, such as those of a closed connection, have none.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
