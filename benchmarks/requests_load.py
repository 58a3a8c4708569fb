"""Send small requests over persistent connections, one at a time on each."""

import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle

import load
from load import HOST, Answer, Load

#: Maximum bytes per read; larger than a response.
READ = 64 << 10


@dataclass(frozen=True)
class Plan:
    """Request the `paths` in turn for `seconds`, over a number of `connections`."""

    port: int
    paths: list[str]
    connections: int
    seconds: float

    def __post_init__(self) -> None:
        load.within_bounds(self.connections, 0)


@dataclass(frozen=True)
class Asked(Load):
    """The number of 200 responses, and the bytes of their bodies."""

    requests: int = 0
    bytes: int = 0


def requests(plan: Plan) -> Iterator[bytes]:
    """Return an endless iterator of the requests."""
    words = f"HTTP/1.1\r\nHost: {HOST}:{plan.port}\r\n\r\n"
    return cycle([f"GET {path} {words}".encode() for path in plan.paths])


def run(plan: Plan) -> Asked:
    """Execute the plan."""
    counts: list[int] = []
    loaded = load.at_once(1, lambda _: counts.extend(ask(plan)))
    return Asked(loaded.seconds, loaded.client_cpu, *counts)


def ask(plan: Plan) -> tuple[int, int]:
    """Send requests until the time is over; return the number and bytes of the responses."""
    following = requests(plan)
    waiting: dict[int, tuple[socket.socket, Answer]] = {}
    count = size = 0
    with select.epoll() as poll, ExitStack() as stack:
        for _ in range(plan.connections):
            sock = stack.enter_context(load.connect(plan.port))
            poll.register(sock, select.EPOLLIN)
            sock.sendall(next(following))
            waiting[sock.fileno()] = sock, Answer()
        until = time.monotonic() + plan.seconds
        while waiting:
            if not (ready := poll.poll(load.PATIENCE)):
                raise TimeoutError("no response")
            over = time.monotonic() > until
            for fd, _ in ready:
                sock, answer = waiting[fd]
                if not answer.take(os.read(fd, READ)):
                    continue
                answer.expect(b"200")
                count, size = count + 1, size + answer.size
                if over:
                    del waiting[fd]
                else:
                    sock.sendall(next(following))
                    waiting[fd] = sock, Answer()
    return count, size


if __name__ == "__main__":
    load.main(lambda values: run(Plan(**values)))
