"""Measure the cost of one request for a service and its Redis."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias
from urllib.parse import urlsplit

import processes
from load import HOST
from measure import MIB, Server
from single_request_state import State
from single_request_table import Single

#: Maximum seconds of a response, and seconds of silence after which it is complete.
LONGEST, SILENCE = 20.0, 2.0
#: Seconds until a client that does not read disconnects.
UNREAD = 1.0
#: Bytes that its socket buffer receives nevertheless.
UNREAD_BUFFER = 4096
#: A service is idle if it uses less than this share of a core for these seconds.
REST, REST_OVER = 0.03, 0.25
#: Maximum and minimum seconds to wait after a request.
AFTERMATH, LINGER, LINGER_IN_SMOKE = 10.0, 0.5, 0.1


@dataclass(frozen=True)
class Cost:
    """The cost of one request, without the cost of an idle service."""

    status: str
    sent: int
    received: float
    """MiB."""
    cpu: float
    """Milliseconds of the service."""
    memory: float
    """MiB that it had at most, over what it had before."""
    written: float
    """MiB to the disk."""
    redis: float
    """Milliseconds of CPU of Redis."""
    longest: float
    """Milliseconds of its slowest command."""


Reply: TypeAlias = "bytes | list[Reply] | None"


class RedisClient:
    """A minimal Redis client for the slow log."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port))
        self._file: BinaryIO = self._socket.makefile("rb")
        self._ask("CONFIG SET slowlog-log-slower-than 1000")

    def forget(self) -> None:
        self._ask("SLOWLOG RESET")

    def slowest(self) -> float:
        """Return the milliseconds of the slowest command since the last call, or 0 below one."""
        log = self._ask("SLOWLOG GET 128")
        entries = [each for each in log if isinstance(each, list)] if isinstance(log, list) else []
        spent = [each[2] for each in entries]  # In microseconds.
        return max((int(each) / 1000 for each in spent if isinstance(each, bytes)), default=0.0)

    def _ask(self, command: str) -> Reply:
        self._socket.sendall(f"{command}\r\n".encode())
        return self._reply()

    def _reply(self) -> Reply:
        """Read a reply (RESP2)."""
        line = self._file.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        if kind == b"$":
            return self._file.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        return rest


class Meter:
    """Measure a service and its Redis, if any."""

    def __init__(
        self, server: Server, redis: tuple[int, RedisClient] | None, linger: float = LINGER
    ) -> None:
        self._server = server
        self._redis = redis
        self._linger = linger
        self.rest(linger)
        before, started = self._cpu(), time.monotonic()
        time.sleep(2 * linger)
        seconds = time.monotonic() - started
        self._idle = [(b - a) / seconds for a, b in zip(before, self._cpu(), strict=True)]

    def measure(self, single: Single, state: State) -> Cost:
        """Send a request, and wait until the service is idle again."""
        request = single.build(state)
        self.rest(0.0)
        if self._redis:
            self._redis[1].forget()
        memory = processes.forget_peak(self._server.pid)
        written, started, before = self._written(), time.monotonic(), self._cpu()
        first, received = exchange(self._server.port, request, single)
        self.rest(self._linger)
        seconds = time.monotonic() - started
        cpu, redis = (
            max(0.0, after - earlier - idle * seconds) * 1000
            for after, earlier, idle in zip(self._cpu(), before, self._idle, strict=True)
        )
        return Cost(
            first[9:12].decode("latin-1") or "none",
            len(request) + len(single.then),
            received / MIB,
            cpu,
            max(0.0, (processes.peak(self._server.pid) - memory) / MIB),
            (self._written() - written) / MIB,
            redis,
            self._redis[1].slowest() if self._redis else 0.0,
        )

    def rest(self, seconds: float) -> None:
        """Wait for a time, and until the service is idle."""
        time.sleep(seconds)
        until = time.monotonic() + AFTERMATH
        while time.monotonic() < until:
            before, started = sum(self._cpu()), time.monotonic()
            time.sleep(REST_OVER)
            idle = sum(getattr(self, "_idle", ()))
            if (sum(self._cpu()) - before) / (time.monotonic() - started) - idle < REST:
                return

    def _cpu(self) -> tuple[float, float]:
        redis = processes.cpu_seconds(self._redis[0]) if self._redis else 0.0
        return processes.cpu_seconds(self._server.pid), redis

    def _written(self) -> int:
        return sum(written(pid) for pid in processes.family(self._server.pid))


def written(pid: int) -> int:
    """Return the number of bytes that a process has written to disks."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def exchange(port: int, request: bytes, single: Single) -> tuple[bytes, int]:
    """Send a request; return the beginning and the size of the response."""
    with socket.socket() as sock:
        if not single.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BUFFER)
        sock.settimeout(LONGEST)
        sock.connect((HOST, port))
        with suppress(ConnectionError, TimeoutError):  # A rejected body is not sent to its end.
            sock.sendall(request)
        if not single.reads:
            time.sleep(UNREAD)
            return sock.recv(512), 512
        first, size = b"", 0
        for data in responses(sock):
            if not size and single.then:
                with suppress(ConnectionError, TimeoutError):
                    sock.sendall(single.then)
            first = first or data
            size += len(data)
        return first, size


def responses(sock: socket.socket) -> Iterator[bytes]:
    """Yield received data until the connection is silent; the first data may take longer."""
    until = time.monotonic() + LONGEST
    seconds = LONGEST
    with suppress(ConnectionError, TimeoutError):
        while time.monotonic() < until:
            sock.settimeout(seconds)
            if not (data := sock.recv(1 << 20)):
                return
            yield data
            seconds = SILENCE
