"""A TCP proxy between a client and a service that stops forwarding in the middle of a transfer.

A local client finishes too fast to be killed in time. With the proxy, its bytes stop at the same
point on every machine, where the client waits and can be killed.
"""

import socket
import subprocess
import time
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Lock, Thread
from typing import Self

CHUNK = 64 << 10


class Line(ThreadingTCPServer):
    """Forward requests for `url` to a service, and its responses to the clients.

    The bytes of uploads are counted; with `down`, those of downloads.
    """

    request_queue_size = 64

    def __init__(self, service_port: int, *, down: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), BaseRequestHandler)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        #: The port for new connections; it changes when the service is restarted.
        self.service_port = service_port
        #: The bytes that all clients have sent or received.
        self.carried = 0
        #: The maximum number of simultaneous connections.
        self.most = 0
        self.dead = Event()
        self._down = down
        self._limit = 0
        self._open: set[socket.socket] = set()
        self._counting = Lock()
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
        """Stop after forwarding this number of bytes."""
        self._limit = limit
        self.dead.clear()

    def wait_until_dead(self, client: "subprocess.Popen[bytes]", patience: float) -> None:
        """Wait at most this number of seconds until a client has reached the limit."""
        end = time.monotonic() + patience
        while not self.dead.wait(0.1):
            assert client.poll() is None, "the client ended before it was killed"
            assert time.monotonic() < end, "nothing is carried any more"

    def cut(self) -> None:
        """Close all connections, so that the service detects the disconnects."""
        for each in self._open.copy():
            hang_up(each)

    def finish_request(self, request: object, client_address: object) -> None:
        """Forward one connection; the server calls this in a thread."""
        assert isinstance(request, socket.socket)
        with (
            suppress(ConnectionError),  # the service has been killed
            socket.create_connection(("127.0.0.1", self.service_port)) as service,
        ):
            with self._counting:
                self._open |= {request, service}
                self.most = max(self.most, len(self._open) // 2)
            source, target = (service, request) if self._down else (request, service)
            other_way = Thread(target=carry, args=(target, source))
            other_way.start()
            self._carry_counted(source, target)
            other_way.join()
            self._open -= {request, service}

    def _carry_counted(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(max(1, min(CHUNK, self._limit - self.carried))):
                if self.dead.is_set():
                    return
                target.sendall(data)
                with self._counting:
                    self.carried += len(data)
                    if self.carried >= self._limit:
                        self.dead.set()
        hang_up(target)


def carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    hang_up(target)


def hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the other thread may have closed it
        connection.shutdown(socket.SHUT_RDWR)
