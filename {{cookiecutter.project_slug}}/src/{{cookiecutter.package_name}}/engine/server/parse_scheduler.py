"""Scheduling of parsing: each connection parses one slice of its received bytes at a time.

One read returns up to 256 KiB, which may be 40,000 WebSocket frames or thousands of requests. All
connections together parse for a few milliseconds per iteration of the event loop. A connection with
unparsed bytes pauses reading, and waits for its turn after the others.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary

from ..kernel.kernel import BOUNDS

#: Bytes of a slice: about 700 frames or 1000 header lines.
SLICE = 4 << 10
#: Maximum seconds of parsing in one iteration of the loop; at least one slice is parsed.
SHARE = 0.004

logger = logging.getLogger(__name__)


class ParseScheduler:
    """The connections of one event loop that have bytes to parse, in the order of their turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_scheduled = False
        self.waiting: deque[ScheduledProtocol] = deque()
        #: Unparsed bytes of all connections.
        self.unparsed = 0

    def add(self, connection: "ScheduledProtocol") -> None:
        """Queue a connection, after those that wait, to parse its next slice."""
        self.waiting.append(connection)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        ends_at = time.monotonic() + SHARE
        while self.waiting:
            connection = self.waiting.popleft()
            try:
                connection.parse_queued()
            except Exception:
                logger.exception("A connection is reset: its bytes could not be parsed")
                connection.transport.abort()
            if time.monotonic() >= ends_at:
                break
        self._is_scheduled = bool(self.waiting)
        if self._is_scheduled:
            self._loop.call_soon(self._run)


class ScheduledProtocol(asyncio.Protocol):
    """A protocol that parses the received bytes in slices."""

    transport: Any
    loop: asyncio.AbstractEventLoop
    config: Any  # A `ServerConfig`.
    #: The bytes that were received, and how many of them are parsed.
    _unparsed = b""
    _parsed = 0
    #: The number of unparsed bytes that is included in the total of all connections.
    _held = 0
    _queued = False

    def parse(self, data: bytes) -> None:
        """Parse a slice."""
        raise NotImplementedError

    def may_parse(self) -> bool:
        """Return whether the next slice can be parsed now; `resume` is called when that changes."""
        raise NotImplementedError

    def hold(self) -> None:
        """Stop reading: there are unparsed bytes."""
        raise NotImplementedError

    def release(self) -> None:
        """Continue reading."""
        raise NotImplementedError

    def slice_end(self, data: bytes, start: int) -> int:
        """Return the end of the slice that begins at `start`; it may be beyond that of `data`."""
        return start + SLICE

    def data_received(self, data: bytes) -> None:
        if self._unparsed:  # The transport had read these bytes before it was paused.
            self._keep(self._unparsed[self._parsed :] + data)
            return
        scheduler = scheduler_of(self.loop)
        self._unparsed, self._parsed = data, 0
        # Most reads are one slice, which is parsed at once.
        if not scheduler.waiting and self.may_parse():
            self._parse_slice()
        if self._unparsed:
            self.hold()
            self._keep(self._unparsed[self._parsed :])
            self.resume()

    def resume(self) -> None:
        """Wait for a turn to parse the remaining bytes."""
        if self._held and not self._queued and self.may_parse():
            self._queued = True
            scheduler_of(self.loop).add(self)

    def parse_queued(self) -> None:
        """Parse one slice, and wait for the next turn if there is more."""
        self._queued = False
        if not (self._unparsed and self.may_parse()):
            return
        self._parse_slice()
        if self._unparsed:
            self.resume()
        elif self._held:
            self._keep(b"")
            self.release()

    def drop(self) -> bytes:
        """Remove the unparsed bytes and return them."""
        rest = self._unparsed[self._parsed :]
        self._keep(b"")
        return rest

    def _parse_slice(self) -> None:
        data, start = self._unparsed, self._parsed
        end = self.slice_end(data, start)
        self._parsed = min(end, len(data))
        self.parse(data if start == 0 and end >= len(data) else data[start:end])
        if self.transport.is_closing():
            self.drop()
        elif self._unparsed and self._parsed == len(self._unparsed):
            self._unparsed, self._parsed = b"", 0

    def _keep(self, data: bytes) -> None:
        scheduler = scheduler_of(self.loop)
        self._unparsed, self._parsed = data, 0
        scheduler.unparsed += len(data) - self._held
        self._held = len(data)
        # A connection with less than a slice of unparsed bytes is not the cause of a large total.
        if self._held > SLICE and scheduler.unparsed > self.config.limits.max_unparsed:
            BOUNDS["server.max_unparsed"] += 1
            self.transport.abort()
            self.drop()


#: By event loop: the connections of all its servers share the turns.
_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, ParseScheduler] = WeakKeyDictionary()


def scheduler_of(loop: asyncio.AbstractEventLoop) -> ParseScheduler:
    """Return the scheduler of an event loop."""
    if loop not in _OF_LOOP:
        _OF_LOOP[loop] = ParseScheduler(loop)
    return _OF_LOOP[loop]
