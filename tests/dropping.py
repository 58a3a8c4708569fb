"""A TCP proxy that drops every connection after a number of events."""

import re
import socket
import struct
from contextlib import suppress
from itertools import islice
from threading import Event

from line import CHUNK, Line, hang_up

#: The end of the block without data at the start of a stream, and of an event.
GREETING = re.compile(rb"\nid: [^\n]+\n\n")
END_OF_EVENT = re.compile(rb"\ndata: [^\n]*\n\n")
AT_ONCE = struct.pack("ii", 1, 0)


class DroppingLine(Line):
    """Drop each connection after this number of `events`; with 0, after the first block."""

    def __init__(self, service_port: int, *, events: int, reset: bool = False) -> None:
        super().__init__(service_port, down=True)
        self.events = events
        #: The number of dropped connections.
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
            # Close the other direction, and with it the connection.
            client.shutdown(socket.SHUT_RD)

    def shutdown_request(self, request: object) -> None:
        """Close a connection without a shutdown, so that it is reset."""
        assert isinstance(request, socket.socket)
        self.close_request(request)


def end_of(events: int, stream: bytes) -> int | None:
    """Return the end of this number of events, or of the first block; None if it is missing."""
    blocks = (END_OF_EVENT if events else GREETING).finditer(stream)
    found = next(islice(blocks, max(events - 1, 0), None), None)
    return found.end() if found else None
