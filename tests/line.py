"""A line between a client and a service, which goes dead in the middle of an upload.

A client on the same machine is done before anybody can kill it. Here its bytes stop at a point, the
same on every machine; there it hangs, and is killed.
"""

import socket
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from typing import Self

CHUNK = 64 << 10


class Line(ThreadingTCPServer):
    """Carries what clients send to `url` to a service, and its answers back."""

    def __init__(self, service_port: int) -> None:
        super().__init__(("127.0.0.1", 0), BaseRequestHandler)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        #: Bytes that all clients have sent so far.
        self.carried = 0
        self.dead = Event()
        self._service = ("127.0.0.1", service_port)
        self._limit = 0
        self._sockets: list[socket.socket] = []
        self._thread = Thread(target=self.serve_forever, args=[0.01])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.cut()
        self.server_close()

    def carry_until(self, limit: int) -> None:
        """Go dead when this many bytes have been carried."""
        self._limit = limit
        self.dead.clear()

    def cut(self) -> None:
        """End all connections: the service notices that its clients are gone."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            hang_up(each)

    def finish_request(self, request: object, client_address: object) -> None:
        """Carry one connection; the server calls this in a thread."""
        assert isinstance(request, socket.socket)
        with socket.create_connection(self._service) as service:
            self._sockets += [request, service]
            back = Thread(target=carry_back, args=(service, request))
            back.start()
            with suppress(OSError):
                self._carry_forth(request, service)
            back.join()

    def _carry_forth(self, client: socket.socket, service: socket.socket) -> None:
        while not self.dead.is_set():
            data = client.recv(max(1, min(CHUNK, self._limit - self.carried)))
            service.sendall(data)
            self.carried += len(data)
            if self.carried >= self._limit:
                self.dead.set()
            elif not data:
                hang_up(service)
                break


def carry_back(service: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while data := service.recv(CHUNK):
            client.sendall(data)
    hang_up(client)


def hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the other side may have done it
        connection.shutdown(socket.SHUT_RDWR)
