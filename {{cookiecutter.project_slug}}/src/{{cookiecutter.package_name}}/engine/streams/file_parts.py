"""Parts of open files: without a copy where the server takes them so, else from the page cache.

What is in the page cache can be read in the event loop, what is not takes a thread.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import NamedTuple

from ..kernel.threads import in_thread

#: Makes a read fail instead of wait for the disk; 0 where the platform knows no such thing.
NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
#: Bytes at a time: what a client has to take within the send timeout, and others wait for.
TURN = 256 << 10

_one = bytearray(1)


class FilePart(NamedTuple):
    """`size` bytes from `start` of an open file, as a chunk of a stream."""

    descriptor: int
    start: int
    size: int

    def turns(self) -> Iterator["FilePart"]:
        """Cut it into parts of at most TURN bytes."""
        stop = self.start + self.size
        for start in range(self.start, stop, TURN):
            yield FilePart(self.descriptor, start, min(TURN, stop - start))

    async def read(self, executor: Executor | None) -> bytes:
        """Return the bytes, all of them; raises EOFError when the file is shorter."""
        if self.in_page_cache():
            data = os.pread(self.descriptor, self.size, self.start)
        else:
            data = await in_thread(executor, os.pread, self.descriptor, self.size, self.start)
        if len(data) < self.size:
            raise EOFError("a file is shorter than it was said to be")
        return data

    async def fetch(self, executor: Executor | None) -> None:
        """Bring the bytes into the page cache, if they are not there."""
        if not self.in_page_cache():
            await in_thread(executor, os.pread, self.descriptor, self.size, self.start)

    def in_page_cache(self) -> bool:
        """Whether it can be read without waiting, going by its first and its last byte.

        Linux reads ahead in order, so there are hardly ever holes between. False as well where the
        file system does not tell.
        """
        try:
            os.preadv(self.descriptor, [_one], self.start, NOWAIT)
            os.preadv(self.descriptor, [_one], self.start + self.size - 1, NOWAIT)
        except OSError:
            return False
        return True
