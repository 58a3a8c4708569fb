"""Subscribe to one topic many times, publish events, and measure the deliveries.

The client uses one thread and one epoll, with one read and one search per delivery, to cost less
than the servers. In lock-step: an event is published when all subscribers have the previous one.
"""

import math
import os
import re
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import load
import processes
from load import HOST, Answer, Load

#: Limits of a plan.
MAX_SUBSCRIBERS = 50_000
#: Several client addresses from 127.0.0.2; one address has only 28,000 ports.
ADDRESSES = 200
#: Pending connections; the backlog of a server is about 2,000.
AT_ONCE = 200
#: Maximum number of sockets per poll, and of bytes per read.
READY, READ = 1024, 4096
#: A server is idle if it uses less than these CPU seconds in these seconds.
QUIET, IDLE = 0.2, 0.01
#: Larger than the marker that identifies an event.
MARKER = 32
#: The field of a response with the time of the next attempt.
REFUSED = re.compile(
    rb"HTTP/1\.1 (?:503|429) .*?\r\nretry-after: *(\d+)", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True)
class Plan:
    """The servers of `subscribers`, and the number of events of `size` bytes."""

    ports: list[int]
    pids: list[int]
    subscribe: str
    publish: str
    subscribers: int
    events: int
    size: int
    seconds: float
    """How long all of it may take; what has not arrived by then is missing."""
    redis: int | None = None
    """The process behind the servers, if there is one."""

    def __post_init__(self) -> None:
        if not len(self.ports) < self.subscribers <= MAX_SUBSCRIBERS:
            raise ValueError(f"more than one subscriber per server, at most {MAX_SUBSCRIBERS}")

    def cpu(self) -> float:
        return sum(processes.cpu_seconds(pid) for pid in self.pids)

    def redis_cpu(self) -> float:
        return processes.cpu_seconds(self.redis) if self.redis else 0.0

    def memory(self) -> int:
        return sum(processes.forget_peak(pid) for pid in self.pids)


@dataclass(frozen=True)
class FanOut(Load):
    """The results of a load; all except the memory cover the time of publication."""

    delivered: int
    missing: int
    """Deliveries on open streams that were too late."""
    cut: int
    """Subscribers that were left by their server."""
    refused: int
    """Subscribers that were told to come back later."""
    memory: float
    """Bytes per connection by which the servers have grown before."""
    cpu: float
    """CPU seconds of the servers."""
    redis_cpu: float
    p50: float
    """Seconds from before an event was published to when a subscriber had it."""
    p99: float


class Crowd:
    """The subscribers."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.until = time.monotonic() + plan.seconds
        self.epoll = select.epoll()
        self.subscribers: dict[int, socket.socket] = {}
        #: Number of rejected subscribers, and of streams closed by the server.
        self.refused = self.cut = 0
        self.missing = 0
        #: Nanoseconds of each delivery.
        self.latencies: list[int] = []
        #: The incomplete end of received data, by socket.
        self._pieces: dict[int, bytes] = {}

    def connect(self, numbers: range) -> None:
        """Subscribe, and wait until all have received their headers and the servers are idle.

        Rejected subscribers retry after the time in the response.
        """
        answers: dict[int, tuple[int, bytes]] = {}
        coming = deque((0.0, number) for number in numbers)
        while (coming or answers) and self._in_time():
            while coming and len(answers) < AT_ONCE and coming[0][0] <= time.monotonic():
                _, number = coming.popleft()
                answers[self._subscribe(number)] = number, b""
            for number, seconds in self._greet(answers):
                self.refused += 1
                coming.append((time.monotonic() + seconds, number))
        for fd in answers:
            self._lose(fd)
        before = -1.0
        while before + IDLE < (before := self.plan.cpu()) and self._in_time():
            quiet = time.monotonic() + QUIET
            while time.monotonic() < quiet:
                for _ in self._greet(answers):
                    pass

    def _subscribe(self, number: int) -> int:
        sock = socket.socket()
        # Close with a reset, because TIME_WAIT would occupy the port for a minute.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.bind((f"127.0.0.{2 + number % ADDRESSES}", 0))
        sock.connect((HOST, self.plan.ports[number % len(self.plan.ports)]))
        sock.setblocking(False)
        sock.send(
            f"GET {self.plan.subscribe} HTTP/1.1\r\nHost: {HOST}\r\n"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        self.epoll.register(sock, select.EPOLLIN)
        self.subscribers[sock.fileno()] = sock
        return sock.fileno()

    def _greet(self, answers: dict[int, tuple[int, bytes]]) -> Iterator[tuple[int, float]]:
        """Read responses; a socket is removed from `answers` when its headers are complete.

        Yield the numbers of rejected subscribers, with the seconds until their next attempt.
        """
        for fd, data in self._arrived():
            if fd in answers:
                number, head = answers[fd][0], answers[fd][1] + data
                answers[fd] = number, head
                if b"\r\n\r\n" not in head and data:
                    continue
                del answers[fd]
                if retry_after := REFUSED.match(head):
                    self._lose(fd)
                    yield number, float(retry_after[1])
                elif not head.startswith(b"HTTP/1.1 200"):
                    raise OSError(f"200 expected, not {head!r}")
            elif not data:
                self._cut(fd)

    def publish(self, publishers: Sequence[socket.socket]) -> None:
        """Publish events with alternating publishers until the time limit."""
        for publisher in publishers:
            self.epoll.register(publisher, select.EPOLLIN)
        for number, publisher in enumerate(islice(cycle(publishers), self.plan.events)):
            if not self._in_time():
                self.missing += len(self.subscribers) * (self.plan.events - number)
                return
            started = time.monotonic_ns()
            marker = f"@{started};".encode()
            publisher.sendall(
                f"POST {self.plan.publish} HTTP/1.1\r\nHost: {HOST}\r\n"
                f"Content-Type: text/plain\r\nContent-Length: {self.plan.size}\r\n\r\n".encode()
                + marker.ljust(self.plan.size, b"x")
            )
            self._deliver(started, marker, publisher.fileno())

    def _deliver(self, started: int, marker: bytes, publisher: int) -> None:
        """Read one event on all streams, and the response to its publisher."""
        waiting, answer = {publisher, *self.subscribers}, Answer()
        while waiting and self._in_time():
            for fd, data in self._arrived():
                if fd == publisher:
                    if answer.take(data):
                        answer.expect(b"2")
                        waiting.discard(fd)
                elif not data:
                    self._cut(fd)
                    waiting.discard(fd)
                elif marker in data or marker in self._pieced(fd, data):
                    self.latencies.append(time.monotonic_ns() - started)
                    waiting.remove(fd)  # Raises KeyError if an event is delivered twice.
        self.missing += len(waiting - {publisher})

    def _pieced(self, fd: int, data: bytes) -> bytes:
        """Return received data, with the end of the previous data."""
        self._pieces[fd] = data = self._pieces.get(fd, b"")[-MARKER:] + data
        return data

    def _arrived(self) -> Iterator[tuple[int, bytes]]:
        """Yield sockets with their received data, which is empty if the server has closed them."""
        for fd, _ in self.epoll.poll(0.05, READY):
            try:
                yield fd, os.read(fd, READ)
            except ConnectionError:
                yield fd, b""

    def _cut(self, fd: int) -> None:
        """Count a closed stream; its further events are not missing."""
        self._lose(fd)
        self.cut += 1

    def _lose(self, fd: int) -> None:
        self.epoll.unregister(fd)
        self.subscribers.pop(fd).close()

    def _in_time(self) -> bool:
        return time.monotonic() < self.until


def run(plan: Plan) -> FanOut:
    """Execute the plan."""
    crowd = Crowd(plan)
    # The first subscriber triggers one-time allocations of the server.
    first = len(plan.ports)
    crowd.connect(range(first))
    before = plan.memory()
    crowd.connect(range(first, plan.subscribers))
    memory = (plan.memory() - before) / (plan.subscribers - first)
    cpu, redis = plan.cpu(), plan.redis_cpu()
    own, started = time.process_time(), time.perf_counter()
    if len(crowd.subscribers) == plan.subscribers:
        crowd.publish([load.connect(port) for port in plan.ports])
    else:
        crowd.missing = plan.subscribers * plan.events
    seconds, own = time.perf_counter() - started, time.process_time() - own
    cpu, redis = plan.cpu() - cpu, plan.redis_cpu() - redis
    crowd.latencies.sort()
    return FanOut(
        seconds,
        own,
        len(crowd.latencies),
        crowd.missing,
        crowd.cut,
        crowd.refused,
        memory,
        cpu,
        redis,
        percentile(crowd.latencies, 50),
        percentile(crowd.latencies, 99),
    )


def percentile(ordered: list[int], percent: int) -> float:
    """Return a percentile of sorted nanoseconds in seconds."""
    return ordered[len(ordered) * percent // 100] / 1e9 if ordered else math.nan


if __name__ == "__main__":
    load.main(lambda values: run(Plan(**values)))
