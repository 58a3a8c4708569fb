"""The client of a benchmark, in a separate process.

It is limited in count, bytes, the time of a blocking call and the total time.
"""

import json
import re
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
#: Limits of a plan.
MAX_CONNECTIONS = 128
MAX_BYTES = 16 << 30
#: Maximum seconds of a blocking call.
PATIENCE = 60
#: Seconds after which this process exits.
DEADLINE = 600

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
#: The end of a chunked body (RFC 9112, section 7.1).
LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """The results of a load."""

    seconds: float
    client_cpu: float
    """CPU seconds of this process; near `seconds`, it is this process that was measured."""


class Answer:
    """A response on a persistent connection, which may arrive in any number of pieces."""

    __slots__ = ("_length", "_tail", "head", "size")

    def __init__(self) -> None:
        self.head = b""
        self.size = 0
        """Bytes of the body; of one in chunks, with their sizes."""
        self._length: int | None = None
        self._tail = b""

    def take(self, data: bytes) -> bool:
        """Parse the next piece; return whether it was the last."""
        if not data:
            raise OSError(f"the connection was closed within a response: {self.head[:200]!r}")
        if b"\r\n\r\n" not in self.head:
            self.head, end, data = (self.head + data).partition(b"\r\n\r\n")
            self.head += end
            if not end:
                return False
            length = LENGTH.search(self.head)
            self._length = int(length[1]) if length else None
        self.size += len(data)
        if self._length is not None:
            return self.size >= self._length
        self._tail = (self._tail + data)[-len(LAST_CHUNK) :]
        return self._tail == LAST_CHUNK

    def expect(self, status: bytes) -> None:
        """Raise an error for another status."""
        if not self.head.startswith(b"HTTP/1.1 " + status):
            raise OSError(f"{status!r} expected, not {self.head[:200]!r}")


def within_bounds(connections: int, size: int) -> None:
    if not 0 < connections <= MAX_CONNECTIONS or size > MAX_BYTES:
        raise ValueError(f"at most {MAX_CONNECTIONS} connections and {MAX_BYTES} bytes")


def connect(port: int, buffers: dict[int, int] | None = None) -> socket.socket:
    """Open a connection with a timeout.

    `buffers` are values for SO_SNDBUF and SO_RCVBUF, which the kernel doubles for its own overhead.
    """
    sock = socket.socket()
    patience = struct.pack("ll", PATIENCE, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    for option, size in (buffers or {}).items():
        sock.setsockopt(socket.SOL_SOCKET, option, size)
    sock.connect((HOST, port))
    return sock


def at_once(count: int, do: Callable[[int], None]) -> Load:
    """Run a function in a number of threads, and measure it."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    with ThreadPoolExecutor(count) as threads:
        for done in [threads.submit(do, number) for number in range(count)]:
            done.result()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(seconds, cpu)


def main(run: Callable[[dict[str, Any]], Load]) -> None:
    """Read a plan, run it and write the results."""
    signal.alarm(DEADLINE)
    json.dump(vars(run(json.load(sys.stdin))), sys.stdout)
