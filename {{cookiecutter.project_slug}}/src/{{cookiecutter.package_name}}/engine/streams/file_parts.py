"""Parts of open files as chunks of a stream, which the server may send without a copy.

Bytes in the page cache are read in the event loop, others in a thread.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import NamedTuple

from ..kernel.threads import in_thread

#: The ASGI extension that sends from a file descriptor, and its message.
ZERO_COPY = "http.response.zerocopysend"
#: Makes a read fail instead of waiting for the disk; 0 on platforms without it.
NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
#: Bytes of one chunk, which the client must accept within the send timeout; other tasks wait while
#: it is copied.
TURN = 256 << 10

_one = bytearray(1)


class FilePart(NamedTuple):
    """`size` bytes from `start` of an open file, as a chunk of a stream."""

    descriptor: int
    start: int
    size: int

    def turns(self) -> Iterator["FilePart"]:
        """Yield parts of at most TURN bytes."""
        stop = self.start + self.size
        for start in range(self.start, stop, TURN):
            yield FilePart(self.descriptor, start, min(TURN, stop - start))

    async def read(self, executor: Executor | None) -> bytes:
        """Return all of the bytes; raises EOFError if the file is shorter."""
        if self.in_page_cache():
            data = self._read()
        else:
            data = await in_thread(executor, self._read)
        if len(data) < self.size:
            raise EOFError("a file is shorter than its record")
        return data

    async def fetch(self, executor: Executor | None) -> None:
        """Load the bytes into the page cache, if they are not in it."""
        if not self.in_page_cache():
            await in_thread(executor, self._read)

    def in_page_cache(self) -> bool:
        """Whether the part can be read without waiting, judged by its first and last byte.

        Linux reads ahead in order, so gaps in between are rare. False on file systems that do not
        support the check.
        """
        if sys.platform == "win32":
            return False
        try:
            os.preadv(self.descriptor, [_one], self.start, NOWAIT)
            os.preadv(self.descriptor, [_one], self.start + self.size - 1, NOWAIT)
        except OSError:
            return False
        return True

    def _read(self) -> bytes:
        if sys.platform == "win32":
            raise NotImplementedError  # Files have no parts there, because NOWAIT is 0.
        return os.pread(self.descriptor, self.size, self.start)
