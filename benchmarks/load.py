"""What loads a server: a process of its own, so that its work is not in the server's way.

It is bounded: in count, in bytes, in the time that one call may block and in the time of the whole.
"""

import json
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
#: Of one plan.
MAX_CONNECTIONS = 128
MAX_BYTES = 16 << 30
#: Seconds that one call may block.
PATIENCE = 60
#: Seconds after which this process is ended.
DEADLINE = 600


@dataclass(frozen=True)
class Load:
    """How a load went."""

    seconds: float
    client_cpu: float
    """CPU seconds of this process; near `seconds`, it is this process that was measured."""


def within_bounds(connections: int, size: int) -> None:
    if not 0 < connections <= MAX_CONNECTIONS or size > MAX_BYTES:
        raise ValueError(f"at most {MAX_CONNECTIONS} connections and {MAX_BYTES} bytes")


def connect(port: int, buffers: dict[int, int] | None = None) -> socket.socket:
    """Open a connection whose calls block at most for the patience.

    `buffers`: bytes by SO_SNDBUF and SO_RCVBUF, where the kernel's own choice is not wanted; it
    doubles these numbers, for what it needs itself.
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
    """Do something in as many threads, and measure it."""
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
    """Read a plan, and write how it went."""
    signal.alarm(DEADLINE)
    json.dump(vars(run(json.load(sys.stdin))), sys.stdout)
