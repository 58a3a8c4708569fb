"""Subscribe to one topic many times, publish to it, and say who had what, and when.

One thread and one epoll, and per delivery one read and one search: the client has to cost less than
the servers. In lock-step: the next event is published when everybody has this one.
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

#: Of one plan.
MAX_SUBSCRIBERS = 50_000
#: 127.0.0.2 and so on, as if they were many clients; one has no ports for more than 28,000.
ADDRESSES = 200
#: Connections that wait for their answer at the same time; servers have room for about 2,000.
AT_ONCE = 200
#: Sockets that one poll returns, and bytes that one read returns, at most.
READY, READ = 1024, 4096
#: Seconds within which a server that has nothing to do uses less CPU seconds than these.
QUIET, IDLE = 0.2, 0.01
#: More than the bytes of what tells an event from others.
MARKER = 32
#: The head of an answer that says when to come back.
REFUSED = re.compile(
    rb"HTTP/1\.1 (?:503|429) .*?\r\nretry-after: *(\d+)", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True)
class Plan:
    """To whom `subscribers` connect in turn, and how many events of `size` bytes they all get."""

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
    """How a load went; all but the memory is of the time in which events were published."""

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
        #: How many were told to come back later, and how many were left by their server.
        self.refused = self.cut = 0
        self.missing = 0
        #: Nanoseconds that each delivery took.
        self.latencies: list[int] = []
        #: The latest of what arrived in pieces.
        self._pieces: dict[int, bytes] = {}

    def connect(self, numbers: range) -> None:
        """Subscribe, and wait until all have the head of their answer and the servers are quiet.

        A subscriber that is refused comes back when the server says.
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
        # It ends with a reset: what a closed connection leaves behind keeps its port for a minute.
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
        """Take what has arrived; with the head of its answer a socket leaves `answers`.

        Yield the numbers of those that are refused, with the seconds that they are to wait.
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
        """Publish one event after the other, at each publisher in turn, while there is time."""
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
        """Take one event everywhere, and the whole answer to its publisher."""
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
                    waiting.remove(fd)  # This fails when somebody gets an event twice.
        self.missing += len(waiting - {publisher})

    def _pieced(self, fd: int, data: bytes) -> bytes:
        """Return what has arrived with the end of what arrived before."""
        self._pieces[fd] = data = self._pieces.get(fd, b"")[-MARKER:] + data
        return data

    def _arrived(self) -> Iterator[tuple[int, bytes]]:
        """Yield sockets with what has arrived there; nothing has where the server has left."""
        for fd, _ in self.epoll.poll(0.05, READY):
            try:
                yield fd, os.read(fd, READ)
            except ConnectionError:
                yield fd, b""

    def _cut(self, fd: int) -> None:
        """Count a subscriber whose server has left; what it does not get is not missing."""
        self._lose(fd)
        self.cut += 1

    def _lose(self, fd: int) -> None:
        self.epoll.unregister(fd)
        self.subscribers.pop(fd).close()

    def _in_time(self) -> bool:
        return time.monotonic() < self.until


def run(plan: Plan) -> FanOut:
    """Do all that the plan says."""
    crowd = Crowd(plan)
    # What a server allocates only once, it has with its first subscriber.
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
    """Return seconds of sorted nanoseconds."""
    return ordered[len(ordered) * percent // 100] / 1e9 if ordered else math.nan


if __name__ == "__main__":
    load.main(lambda values: run(Plan(**values)))
