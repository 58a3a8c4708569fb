"""The limit of open connections, and the choice of those that are closed above it.

The oldest connections without complete request headers are closed first: those that wait for
their first request or for the next one. If there are none, the new request is refused with 503,
unless it is for health or metrics. Slow clients are ended by the deadlines of their streams.

Files and connections share the descriptors of the process. The system assigns the lowest free
one, so its number shows how many are in use.
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

logger = logging.getLogger(__name__)
#: Open files that the process asks the system for.
WANTED = 1 << 16


class Capacity:
    """The connections of one server; each waits for headers, has a request or is a WebSocket."""

    def __init__(self, opened: set[Any], maximum: int | None) -> None:
        """`opened` contains all connections until they are closed."""
        self._opened = opened
        #: Descriptors for connections. The rest is for files, and for connections that are accepted
        #: but not yet counted.
        self._descriptors = allowed() * 5 // 8
        most = min(maximum or self._descriptors, self._descriptors)
        #: Connections that may always wait for headers: otherwise no request could arrive.
        self._spare = max(1, most // 8)
        self._most = max(1, most - self._spare)
        #: The connections without complete headers, oldest first.
        self._waiting: OrderedDict[Any, None] = OrderedDict()
        self._warned_at = -60.0

    def opens(self, connection: Any) -> None:
        """Count a new connection."""
        self._waiting[connection] = None
        if self._is_exceeded(connection):
            self._close_oldest()

    def begins(self, connection: Any) -> bool:
        """Count a request whose headers are complete; return whether there is room for it."""
        if connection not in self._waiting:
            return True  # It is pipelined after another one.
        del self._waiting[connection]
        return not self._is_exceeded(connection) or self._close_oldest()

    def waits(self, connection: Any) -> None:
        """Count a connection as waiting again, after the responses to all of its requests."""
        self.leaves(connection)
        self._waiting[connection] = None

    def leaves(self, connection: Any) -> None:
        """Stop counting a connection as waiting: it is closed, or has become a WebSocket."""
        self._waiting.pop(connection, None)

    def _is_exceeded(self, connection: Any) -> bool:
        number = len(self._opened)
        if number <= self._most:
            if 3 * number < self._descriptors:
                return False  # There is room even with two files for each.
            if not are_used(self._descriptors, connection.transport.get_extra_info("socket")):
                return False
        if time.monotonic() - self._warned_at >= 60:
            self._warned_at = time.monotonic()
            logger.warning("There are too many connections (%d): some are closed", number)
        return True

    def _close_oldest(self) -> bool:
        while len(self._waiting) > self._spare:
            connection, _ = self._waiting.popitem(last=False)
            if not connection.transport.is_closing():
                connection.transport.close()  # After the end of a response that is being sent.
                REFUSALS["idle"] += 1
                return True
        return False


#: By uvicorn's state of the server, the one object that the connections of a server share.
_OF_SERVER: WeakKeyDictionary[Any, Capacity] = WeakKeyDictionary()


def capacity_of(server_state: Any, maximum: int | None) -> Capacity:
    """Return the capacity of the server that has this state."""
    if server_state not in _OF_SERVER:
        _OF_SERVER[server_state] = Capacity(server_state.connections, maximum)
    return _OF_SERVER[server_state]


def allowed() -> int:
    """Raise a low limit of open files, and return how many this process may have.

    A connection takes one descriptor, and a file that is being sent takes two.
    """
    if sys.platform == "win32":
        return WANTED  # Windows has no limit.
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return WANTED
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def backlog() -> int:
    """Return how many connections may wait to be accepted.

    asyncio accepts all of them at once, and does not recover when its descriptors run out.
    """
    return max(1, min(2048, allowed() // 8))


def are_used(number: int, sock: socket.socket) -> bool:
    """Return whether at least `number` descriptors are in use; False on Windows."""
    if sys.platform == "win32":
        return False
    try:
        lowest = os.dup(sock.fileno())
    except OSError:
        return True
    os.close(lowest)
    return lowest >= number
