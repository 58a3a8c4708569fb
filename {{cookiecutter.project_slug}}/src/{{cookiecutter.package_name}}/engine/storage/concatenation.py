"""Concatenation: the bytes of an upload are copied from others, one upload at a time.

It has a thread of its own, so that no other upload waits for it.
"""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from ..kernel.kernel import BOUNDS
from ..kernel.problem import Problem
from ..kernel.threads import complete
from .room import Room

#: Bytes between two looks whether to go on, and whether there is still room.
STEP = 8 << 20
#: Bytes that are copied at once where the kernel does not copy by itself.
BLOCK = 1 << 20


class Copier:
    """Puts parts together, one file after another; those that wait are bounded."""

    def __init__(self, room: Room, limit: int) -> None:
        self._room = room
        self._limit = limit
        self._pending = 0
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="concatenation")

    async def copy(self, target: Path, sources: list[Path], size: int) -> None:
        """Make a file of others, `size` bytes in all; raises Problem 503 when too many wait.

        A cancellation takes effect at the next step, and leaves nothing in the target.
        """
        async with self._turn_of_one():
            stop = threading.Event()
            loop = asyncio.get_running_loop()
            copying = loop.run_in_executor(self._thread, self._copy, target, sources, size, stop)
            try:
                await asyncio.shield(copying)
            except asyncio.CancelledError:
                stop.set()
                await complete(asyncio.wait({copying}))
                copying.exception()  # Seen: this request is over.
                raise

    @asynccontextmanager
    async def _turn_of_one(self) -> AsyncGenerator[None]:
        if self._pending >= self._limit:
            BOUNDS["upload.max_concatenations"] += 1
            headers = {"Retry-After": "5"}
            raise Problem(503, "Too many files are put together now.", headers=headers)
        self._pending += 1
        try:
            async with self._turn:
                yield
        finally:
            self._pending -= 1

    def _copy(self, target: Path, sources: list[Path], size: int, stop: threading.Event) -> None:
        self._room.check_space(size)
        with target.open("wb", buffering=0) as out:
            done = False
            try:
                for source in sources:
                    with source.open("rb", buffering=0) as part:
                        while not stop.is_set() and _step(part, out):
                            self._room.check_reserve()
                done = not stop.is_set()
            finally:
                if not done:
                    out.truncate(0)
        if done and target.stat().st_size != size:
            raise OSError(errno.EIO, "a part is shorter than it was")


def _step(part: BinaryIO, out: BinaryIO) -> int:
    """Copy up to STEP bytes from where both files are; return how many, 0 at the end."""
    if hasattr(os, "copy_file_range"):
        try:  # Within the kernel, where it can; some file systems even share the blocks.
            return os.copy_file_range(part.fileno(), out.fileno(), STEP)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
    data = part.read(BLOCK)
    rest = memoryview(data)
    while rest:
        rest = rest[out.write(rest) :]
    return len(data)
