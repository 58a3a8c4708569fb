"""TCP proxies that lose connections silently, pause for a time, or are slow."""

import random
import socket
import struct
import time
from contextlib import suppress
from itertools import cycle
from threading import Event, Thread

from line import CHUNK, Line, hang_up

AT_ONCE = struct.pack("ii", 1, 0)


class SilentLine(Line):
    """Drop each connection after some bytes: the client detects it, the service does not.

    This simulates a phone that leaves a network. The service receives nothing more, not even a FIN.
    """

    def __init__(self, service_port: int, *, least: int, most: int) -> None:
        super().__init__(service_port)
        #: The number of dropped connections.
        self.drops = 0
        self._least, self._most = least, most

    def finish_request(self, request: object, client_address: object) -> None:
        """Forward one connection until it is dropped."""
        assert isinstance(request, socket.socket)
        dropped = Event()
        # Stays open until `cut`, also after the client side is dropped.
        service = self._connect()
        self._open |= {request, service}
        back = Thread(target=carry_until, args=(dropped, service, request))
        back.start()
        rest = random.randint(self._least, self._most)  # noqa: S311  # any place will do
        with suppress(OSError):
            while rest and (data := request.recv(min(CHUNK, rest))):
                service.sendall(data)
                rest -= len(data)
        if rest:
            hang_up(service)
        else:
            dropped.set()
            self.drops += 1
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            request.shutdown(socket.SHUT_RD)
        self._open.discard(request)
        request.close()
        back.join()
        self._open.discard(service)
        service.close()

    def shutdown_request(self, request: object) -> None:
        """Do nothing: the connection is already closed."""

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.service_port))


class RovingLine(SilentLine):
    """Lose connections like `SilentLine`; each one goes to the next of several services."""

    def __init__(self, *service_ports: int, least: int, most: int) -> None:
        super().__init__(service_ports[0], least=least, most=most)
        self._ports = cycle(service_ports)

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", next(self._ports)))


class StandingLine(Line):
    """Pause once, for some seconds in the middle of an upload, without closing connections."""

    def __init__(self, service_port: int, *, after: int, seconds: float) -> None:
        super().__init__(service_port)
        self._after, self._seconds = after, seconds
        self._stands_until = 0.0
        self._moves = Event()
        self._moves.set()

    def finish_request(self, request: object, client_address: object) -> None:
        """Forward one connection in both directions, unless the proxy is paused."""
        assert isinstance(request, socket.socket)
        with socket.create_connection(("127.0.0.1", self.service_port)) as service:
            self._open |= {request, service}
            back = Thread(target=self._carry, args=(service, request))
            back.start()
            self._carry(request, service, counted=True)
            back.join()
            self._open -= {request, service}

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                self._moves.wait()
                target.sendall(data)
                if counted:
                    self._count(len(data))
        self._moves.wait()
        hang_up(target)

    def _count(self, size: int) -> None:
        before = self.carried
        self.carried += size
        if before < self._after <= self.carried:
            self._moves.clear()
            time.sleep(self._seconds)
            self._moves.set()


def carry_until(dropped: Event, source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            if not dropped.is_set():
                target.sendall(data)
    if not dropped.is_set():
        hang_up(target)


class PacedLine(Line):
    """Forward the counted bytes of each connection at a limited speed, like a slow network."""

    def __init__(self, service_port: int, *, rate: int, down: bool = False) -> None:
        super().__init__(service_port, down=down)
        #: Bytes per second of a connection.
        self.rate = rate

    def _carry_counted(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            # Otherwise the system would receive megabytes in advance.
            source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
            while data := source.recv(CHUNK):
                target.sendall(data)
                with self._counting:
                    self.carried += len(data)
                time.sleep(len(data) / self.rate)
        with suppress(OSError):
            # A client that still sends when the response has ended is reset, as by nginx.
            source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        hang_up(target)
