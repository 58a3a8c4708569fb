"""The bytes of clients are parsed in slices: all connections share a few milliseconds of each turn.

One read brings up to 256 KiB, which may be 40,000 frames or thousands of requests. A connection
with more than one slice is not read until the rest is parsed; slices of others come in between.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary

import uvicorn

from ..kernel.kernel import BOUNDS
from .config import limits_of

#: Bytes that are parsed without a look at the clock: about 700 frames or 1000 header lines.
SLICE = 4 << 10
#: Seconds of a turn of the loop in which slices are parsed; at least one is.
SHARE = 0.004

logger = logging.getLogger(__name__)


class Turns:
    """The connections of one event loop that have bytes to parse, in the order of their slices."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Sliced] = deque()
        self._ends_at: float | None = None
        #: Bytes that all connections hold.
        self.unparsed = 0

    def is_free(self) -> bool:
        """Whether no other connection waits for its turn."""
        return not self._waiting

    def has_time(self) -> bool:
        """Whether one more slice of the same read may be parsed at once."""
        if self._ends_at is None:
            self._begin()
        return self.is_free() and time.monotonic() < (self._ends_at or 0)

    def add(self, connection: "Sliced") -> None:
        """Let a connection parse its next slice after those that wait."""
        self._waiting.append(connection)
        if self._ends_at is None:
            self._begin()

    def _begin(self) -> None:
        self._ends_at = time.monotonic() + SHARE
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._ends_at = None
        if not self._waiting:
            return
        self._begin()
        ends_at = time.monotonic() + SHARE
        while self._waiting:
            connection = self._waiting.popleft()
            try:
                connection.parse_queued()
            except Exception:
                logger.exception("A connection is reset: its bytes could not be parsed")
                connection.transport.abort()
            if time.monotonic() >= ends_at:
                break


class Sliced:
    """A protocol that parses what it receives in slices."""

    transport: Any
    loop: asyncio.AbstractEventLoop
    config: uvicorn.Config
    #: What has been received, up to `_parsed` of it parsed.
    _unparsed = b""
    _parsed = 0
    _held = 0
    _queued = False

    def parse(self, data: bytes) -> None:
        """Parse a slice."""
        raise NotImplementedError

    def may_parse(self) -> bool:
        """Whether the next slice can be parsed now; `go_on` is called when that changes."""
        raise NotImplementedError

    def hold(self) -> None:
        """Stop to read: there are bytes that are not parsed."""
        raise NotImplementedError

    def release(self) -> None:
        """Read on."""
        raise NotImplementedError

    def slice_end(self, data: bytes, start: int) -> int:
        """Return where the slice of `data` that begins at `start` ends, or a place after it all."""
        return start + SLICE

    def data_received(self, data: bytes) -> None:
        if self._unparsed:  # The transport had read it before it was stopped.
            self._keep(self._unparsed[self._parsed :] + data)
            return
        turns = turns_of(self.loop)
        self._unparsed, self._parsed = data, 0
        # Most reads have one slice, for which no clock is needed.
        may = turns.is_free() and self.may_parse()
        while may:
            self._parse_slice()
            may = bool(self._unparsed) and self.may_parse() and turns.has_time()
        if self._unparsed:
            self.hold()
            self._keep(self._unparsed[self._parsed :])
            self.go_on()

    def go_on(self) -> None:
        """Parse what is left, when it is this connection's turn."""
        if self._held and not self._queued and self.may_parse():
            self._queued = True
            turns_of(self.loop).add(self)

    def parse_queued(self) -> None:
        """Parse one slice, and wait for the next turn if there is more."""
        self._queued = False
        if not (self._unparsed and self.may_parse()):
            return
        self._parse_slice()
        if self._unparsed:
            self.go_on()
        elif self._held:
            self._keep(b"")
            self.release()

    def drop(self) -> bytes:
        """Forget what is not parsed, and return it."""
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
        turns = turns_of(self.loop)
        self._unparsed, self._parsed = data, 0
        turns.unparsed += len(data) - self._held
        self._held = len(data)
        # What fits one slice is not much, whoever sent it.
        if self._held > SLICE and turns.unparsed > limits_of(self.config).server.max_unparsed:
            BOUNDS["server.max_unparsed"] += 1
            self.transport.abort()
            self.drop()


#: Of the loop, not of an application: all its servers take their turns in it.
_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """Return the turns of an event loop."""
    turns = _OF_LOOP.get(loop)
    if turns is None:
        turns = _OF_LOOP[loop] = Turns(loop)
    return turns
