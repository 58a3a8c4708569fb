"""Subscribe to one topic many times, publish to it, and say who had what, and when.

One thread and one epoll, and per delivery one read and one search: the client has to cost less than
the servers. In lock-step: the next event is published when everybody has this one.
"""

import math
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import load
import processes
from load import HOST, Load

#: Of one plan.
MAX_SUBSCRIBERS = 50_000
#: 127.0.0.2 and so on, as if they were many clients; one has no ports for more than 28,000.
ADDRESSES = 200
#: Connections that wait for their answer at the same time; servers have room for about 2,000.
AT_ONCE = 200
#: Sockets that one poll returns, and bytes that one read returns, at most.
READY, READ = 1024, 4096
#: Seconds within which a server that has nothing to do uses no measurable CPU time.
QUIET = 0.2


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
    """How long all of it may take; what has not arrived until then is missing."""
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
        #: Nanoseconds that each delivery took.
        self.latencies: list[int] = []

    def connect(self, numbers: range) -> None:
        """Subscribe, and wait until all have the head of their answer and the servers are quiet."""
        answers: dict[int, bytes] = {}
        for number in numbers:
            answers[self._subscribe(number)] = b""
            while len(answers) >= AT_ONCE and self._in_time():
                self._greet(answers)
        while answers and self._in_time():
            self._greet(answers)
        for fd in answers:
            self._lose(fd)
        before = -1.0
        while before < (before := self.plan.cpu()) and self._in_time():
            quiet = time.monotonic() + QUIET
            while time.monotonic() < quiet:
                self._greet(answers)

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

    def _greet(self, answers: dict[int, bytes]) -> None:
        """Take what has arrived; with the head of its answer a socket leaves `answers`."""
        for fd, data in self._arrived():
            if fd in answers:
                answers[fd] += data
                if b"\r\n\r\n" in answers[fd] or not data:
                    expect(b"HTTP/1.1 200", answers.pop(fd))
            if not data:
                self._lose(fd)

    def publish(self, publishers: Sequence[socket.socket]) -> None:
        """Publish one event after the other, at each publisher in turn, while there is time."""
        for publisher in publishers:
            self.epoll.register(publisher, select.EPOLLIN)
        for publisher in islice(cycle(publishers), self.plan.events):
            if not self._in_time():
                return
            started = time.monotonic_ns()
            marker = f"@{started};".encode()
            publisher.sendall(
                f"POST {self.plan.publish} HTTP/1.1\r\nHost: {HOST}\r\n"
                f"Content-Type: text/plain\r\nContent-Length: {self.plan.size}\r\n\r\n".encode()
                + marker.ljust(self.plan.size, b"x")
            )
            self._deliver(started, marker, {publisher.fileno(), *self.subscribers})

    def _deliver(self, started: int, marker: bytes, waiting: set[int]) -> None:
        """Take one event everywhere, and the answer to its publisher."""
        while waiting and self._in_time():
            for fd, data in self._arrived():
                if marker in data:
                    self.latencies.append(time.monotonic_ns() - started)
                    waiting.remove(fd)  # This fails when somebody gets an event twice.
                elif data.startswith(b"HTTP/1.1"):
                    expect(b"HTTP/1.1 2", data)
                    waiting.discard(fd)
                elif not data:
                    self._lose(fd)
                    waiting.discard(fd)

    def _arrived(self) -> Iterator[tuple[int, bytes]]:
        """Yield sockets with what has arrived there; nothing has where the server has left."""
        for fd, _ in self.epoll.poll(0.05, READY):
            try:
                yield fd, os.read(fd, READ)
            except ConnectionError:
                yield fd, b""

    def _lose(self, fd: int) -> None:
        if sock := self.subscribers.pop(fd, None):
            self.epoll.unregister(fd)
            sock.close()

    def _in_time(self) -> bool:
        return time.monotonic() < self.until


def expect(start: bytes, answer: bytes) -> None:
    if not answer.startswith(start):
        raise OSError(f"{start!r} expected, not {answer!r}")


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
    seconds, own = time.perf_counter() - started, time.process_time() - own
    cpu, redis = plan.cpu() - cpu, plan.redis_cpu() - redis
    crowd.latencies.sort()
    p50, p99 = (percentile(crowd.latencies, percent) for percent in (50, 99))
    return FanOut(seconds, own, len(crowd.latencies), memory, cpu, redis, p50, p99)


def percentile(ordered: list[int], percent: int) -> float:
    """Return seconds of sorted nanoseconds."""
    return ordered[len(ordered) * percent // 100] / 1e9 if ordered else math.nan


if __name__ == "__main__":
    load.main(lambda values: run(Plan(**values)))
