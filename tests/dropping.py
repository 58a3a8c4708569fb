"""A line that drops every connection behind a number of events."""

import re
import socket
import struct
from contextlib import suppress
from itertools import islice
from threading import Event

from line import CHUNK, Line, hang_up

#: A block without data, with which a stream begins, and the end of an event.
GREETING = re.compile(rb"\nid: [^\n]+\n\n")
END_OF_EVENT = re.compile(rb"\ndata: [^\n]*\n\n")
AT_ONCE = struct.pack("ii", 1, 0)


class DroppingLine(Line):
    """Drops a connection when it has carried so many `events`; with none, behind the greeting."""

    def __init__(self, service_port: int, *, events: int, reset: bool = False) -> None:
        super().__init__(service_port, down=True)
        self.events = events
        #: Connections that were dropped so far.
        self.drops = 0
        #: Set when a client has subscribed.
        self.greeted = Event()
        self._reset = reset

    def _carry_counted(self, source: socket.socket, target: socket.socket) -> None:
        events, carried, end = self.events, b"", None
        with suppress(OSError):
            while end is None and (data := source.recv(CHUNK)):
                begin, carried = len(carried), carried + data
                end = end_of(events, carried)
                target.sendall(carried[begin:end])
                if GREETING.search(carried):
                    self.greeted.set()
        self.drops += end is not None
        self._drop(target)

    def _drop(self, client: socket.socket) -> None:
        if not self._reset:
            hang_up(client)
            return
        with suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            # Ends the other way, and with that the connection.
            client.shutdown(socket.SHUT_RD)

    def shutdown_request(self, request: object) -> None:
        """Close a connection; a polite end before that would leave nothing to reset."""
        assert isinstance(request, socket.socket)
        self.close_request(request)


def end_of(events: int, stream: bytes) -> int | None:
    """Return where so many events end, or with none the greeting; None when it is yet to come."""
    blocks = (END_OF_EVENT if events else GREETING).finditer(stream)
    found = next(islice(blocks, max(events - 1, 0), None), None)
    return found.end() if found else None
