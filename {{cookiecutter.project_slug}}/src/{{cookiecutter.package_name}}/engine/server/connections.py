"""How many connections a process keeps, and which of them go when there are too many.

First the oldest that have no complete head: between two requests, or before the first. Then those
whose clients keep us waiting, for a body or for room to send, and hardly move. Where neither makes
room, a request is refused; health and metrics never are. Files and connections both take
descriptors: a system gives the lowest one that is free, which tells how many are in use.
"""

import logging
import os
import socket
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from ..kernel.kernel import REFUSALS
from .config import Limits

#: Seconds in which a client has to move what the minimum rate asks for.
FAIR_SECONDS = 5.0
#: Requests that are looked at for a new one: about as much work as it makes itself.
LOOKS = 100

logger = logging.getLogger(__name__)
#: As many as we ask the system for.
WANTED = 1 << 16


class Connections:
    """All connections of one server; each waits for a head, or has a request, or is a WebSocket."""

    def __init__(self, opened: set[Any], limits: Limits) -> None:
        """`opened` has all of them until they are closed."""
        self._opened = opened
        #: Descriptors; the rest is for files, and for what is accepted before this hears of it.
        self._descriptors = allowed() * 5 // 8
        most = min(limits.server.max_connections or self._descriptors, self._descriptors)
        #: So many heads have a place whatever else there is: else nobody could ask for anything.
        self._spare = max(1, most // 8)
        self._most = max(1, most - self._spare)
        self._min_rate = limits.min_rate
        self._heads: OrderedDict[Any, None] = OrderedDict()
        #: With the time when a client was found to keep us waiting, and the bytes moved until then.
        self._requests: OrderedDict[Any, tuple[float, int] | None] = OrderedDict()
        #: The requests of the last second, if there may not be two files for each connection.
        self._young: OrderedDict[Any, float] = OrderedDict()
        self._told_at = -60.0

    def made(self, connection: Any) -> None:
        """Take in a new connection."""
        self._heads[connection] = None
        if self._crowded(connection):
            self._close_oldest()

    def begins(self, connection: Any) -> bool:
        """Take in a request, whose head is complete; return whether there is room for it."""
        if connection not in self._heads:
            return True  # It came behind another one.
        del self._heads[connection]
        self._requests[connection] = None
        return not self._crowded(connection) or self._close_oldest() or self._reset_slow()

    def waits(self, connection: Any) -> None:
        """Its requests are answered, and the next one may come."""
        self.lost(connection)
        self._heads[connection] = None

    def lost(self, connection: Any) -> None:
        """It is closed, or has become a WebSocket."""
        self._heads.pop(connection, None)
        self._requests.pop(connection, None)
        self._young.pop(connection, None)

    def _crowded(self, connection: Any) -> bool:
        number = len(self._opened)
        if number <= self._most:
            if 3 * number < self._descriptors:
                return False  # Even with two files for each there is room.
            sock = connection.transport.get_extra_info("socket")
            if not more_than(self._descriptors - self._soon_opened(connection), sock):
                return False
        if time.monotonic() - self._told_at >= 60:
            self._told_at = time.monotonic()
            logger.warning("There are too many connections (%d): some are closed", number)
        return True

    def _soon_opened(self, connection: Any) -> int:
        """Return how many files may be opened by requests that have just begun."""
        now = time.monotonic()
        while self._young and next(iter(self._young.values())) < now - 1:
            self._young.popitem(last=False)
        if connection in self._requests:
            self._young[connection] = now
        return 2 * len(self._young)

    def _close_oldest(self) -> bool:
        while len(self._heads) > self._spare:
            connection, _ = self._heads.popitem(last=False)
            self._requests[connection] = None  # The end of an answer may still be under way.
            if not connection.transport.is_closing():
                connection.transport.close()
                REFUSALS["idle"] += 1
                return True
        return False

    def _reset_slow(self) -> bool:
        now = time.monotonic()
        for _ in range(min(LOOKS, len(self._requests))):
            connection, seen = self._requests.popitem(last=False)
            moved = connection.moved()
            if moved is None or seen is None:
                seen = None if moved is None else (now, moved)
            elif now - seen[0] >= FAIR_SECONDS:
                if moved - seen[1] < self._min_rate * (now - seen[0]):
                    connection.reset()
                    REFUSALS["slow"] += 1
                    return True
                seen = now, moved
            self._requests[connection] = seen
        return False


#: uvicorn's protocols have nothing of ours but the state of their server.
_OF_SERVER: WeakKeyDictionary[Any, Connections] = WeakKeyDictionary()


def connections_of(server_state: Any, limits: Limits) -> Connections:
    """Return the connections of the server that this state of uvicorn belongs to."""
    if server_state not in _OF_SERVER:
        _OF_SERVER[server_state] = Connections(server_state.connections, limits)
    return _OF_SERVER[server_state]


def allow_many() -> None:
    """Raise a low limit of the shell: a connection takes one, a file under way two."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # Windows has neither the module nor the limit.

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def allowed() -> int:
    """Return how many descriptors this process may have."""
    with suppress(ImportError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return WANTED if soft == resource.RLIM_INFINITY else soft
    return WANTED


def backlog() -> int:
    """Return how many connections may wait to be accepted.

    asyncio accepts all of them at once, and does not recover when its descriptors run out.
    """
    return max(1, min(2048, allowed() // 8))


def more_than(number: int, sock: socket.socket) -> bool:
    """Whether more than `number` descriptors are in use; never on Windows, which has no limit."""
    if sys.platform == "win32":
        return False
    try:
        lowest = os.dup(sock.fileno())
    except OSError:
        return True
    os.close(lowest)
    return lowest >= number
