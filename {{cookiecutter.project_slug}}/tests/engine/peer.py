"""A bare TCP connection to the service."""

import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from {{cookiecutter.package_name}}.engine import testing

#: Seconds to wait for events that should happen at once.
PATIENCE = testing.PATIENCE


class Peer:
    """A bare TCP connection: it can send half of a request, stop reading, or reset."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.unread = b""

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def get(self, path: str, *headers: str, version: str = "1.1") -> None:
        lines = [f"GET {path} HTTP/{version}", "Host: test", *headers, "", ""]
        await self.send("\r\n".join(lines).encode())

    async def read_until(self, mark: bytes) -> bytes:
        """Return the bytes up to and including the mark; raises EOFError if it does not arrive."""
        async with asyncio.timeout(PATIENCE):
            while mark not in self.unread:
                await self._receive()
        found, _, self.unread = self.unread.partition(mark)
        return found + mark

    async def read(self, size: int) -> bytes:
        """Return `count` bytes; raises EOFError if they do not arrive."""
        async with asyncio.timeout(PATIENCE):
            while len(self.unread) < size:
                await self._receive()
        found, self.unread = self.unread[:size], self.unread[size:]
        return found

    async def read_head(self) -> bytes:
        return await self.read_until(b"\r\n\r\n")

    async def read_to_end(self) -> bytes:
        """Return the bytes until the server closes; raises ConnectionResetError if it resets."""
        async with asyncio.timeout(PATIENCE):
            while chunk := await asyncio.get_running_loop().sock_recv(self._sock, 1 << 20):
                self.unread += chunk
                await asyncio.sleep(0)  # Let the deadline expire.
        rest, self.unread = self.unread, b""
        return rest

    async def _receive(self) -> None:
        chunk = await asyncio.get_running_loop().sock_recv(self._sock, 65536)
        if not chunk:
            raise EOFError(self.unread)
        self.unread += chunk

    def address(self) -> tuple[str, int]:
        """Return the address of this end, as the server sees it."""
        host, port = self._sock.getsockname()
        return host, port

    def end(self) -> None:
        """Send FIN, and continue to read."""
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send RST."""
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._sock.close()

    def close(self) -> None:
        self._sock.close()


def keep_port() -> socket.socket:
    """Return a socket with a free port, for a server that needs the number of its port.

    It never listens. While it is open the system assigns its port to no other process, such as
    another test that starts a server.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform != "win32":
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


@asynccontextmanager
async def connect(port: int, receive_buffer: int | None = None) -> AsyncIterator[Peer]:
    with socket.socket() as sock:
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield Peer(sock)
