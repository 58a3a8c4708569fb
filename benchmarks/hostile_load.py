"""Send an attack as fast as the server reads it, and reopen closed connections."""

import os
import select
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import load
from hostile_attacks import BY_NAME, Attack
from load import HOST, Load

READ = 256 << 10
#: Maximum seconds that a connection waits for a response.
WAIT = 1.0
#: Seconds until the next attempt if the server does not accept a connection.
PAUSE = 0.01
#: A low priority, so that the attack does not delay the probes.
NICENESS = 10


@dataclass(frozen=True)
class Plan:
    """An attack of `connections` for `seconds`."""

    port: int
    attack: str
    theirs: bool
    connections: int
    seconds: float

    def __post_init__(self) -> None:
        load.within_bounds(self.connections, 0)


@dataclass(frozen=True)
class Attacked(Load):
    """The number of sent bytes, and of connections."""

    sent: int = 0
    opened: int = 0


class Connection:
    """A hostile client: a non-blocking socket, and its next data."""

    def __init__(self, plan: Plan, attack: Attack) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(WAIT)
        self.socket.connect((HOST, plan.port))
        self.socket.setblocking(False)
        self.sent_at = time.monotonic()
        self.sent = 0
        host = f"{HOST}:{plan.port}".encode()
        opening = attack.theirs if plan.theirs else attack.opening
        self._left = memoryview(opening.strip(" ").encode().replace(b"{host}", host))
        self._following = with_host(attack.blocks(), host)
        self._paced = attack.paced
        #: Whether the next data is sent after a response.
        self.waiting = attack.waits

    def send(self) -> bool:
        """Send as much as possible; return whether data is left."""
        if not self._left:
            if self.waiting:
                return True
            following = next(self._following, None)
            if following is None:
                return False
            self._left = memoryview(following)
        size = self.socket.send(self._left)
        self.sent += size
        self._left = self._left[size:]
        self.sent_at = time.monotonic()
        self.waiting = self.waiting or (self._paced and not self._left)
        return True

    def is_late(self, now: float) -> bool:
        """Whether the response has timed out."""
        return self.waiting and now - self.sent_at > WAIT

    def receive(self) -> bool:
        """Read available data; return whether the connection is still open."""
        if not self.socket.recv(READ):
            return False
        self.waiting = False
        return True


def with_host(blocks: Iterable[bytes], host: bytes) -> Iterator[bytes]:
    """Insert the host, once for repeated blocks."""
    before = filled = b""
    for each in blocks:
        if each is not before:
            before, filled = each, each.replace(b"{host}", host)
        yield filled


def run(plan: Plan) -> Attacked:
    """Attack until the end of the time."""
    os.nice(NICENESS)
    counts = [0, 0]
    done = load.at_once(1, lambda _: attack(plan, counts))
    return Attacked(done.seconds, done.client_cpu, *counts)


def attack(plan: Plan, counts: list[int]) -> None:
    until = time.monotonic() + plan.seconds
    open_now: dict[int, Connection] = {}

    def close(fd: int) -> None:
        connection = open_now.pop(fd)
        counts[0] += connection.sent
        connection.socket.close()

    with select.epoll() as poll:
        while (now := time.monotonic()) < until:
            for fd in [fd for fd, each in open_now.items() if each.is_late(now)]:
                close(fd)
            if len(open_now) < plan.connections:
                counts[1] += open_more(plan, open_now, poll)
            for fd, events in poll.poll(0.1):
                if not serve(open_now[fd], events):
                    close(fd)
                else:
                    writes = 0 if open_now[fd].waiting else select.EPOLLOUT
                    poll.modify(fd, select.EPOLLIN | writes)
    for fd in list(open_now):
        close(fd)


def open_more(plan: Plan, open_now: dict[int, Connection], poll: select.epoll) -> int:
    """Open missing connections; return their number."""
    before = len(open_now)
    try:
        while len(open_now) < plan.connections:
            connection = Connection(plan, BY_NAME[plan.attack])
            open_now[connection.socket.fileno()] = connection
            poll.register(connection.socket, select.EPOLLIN | select.EPOLLOUT)
    except OSError:
        time.sleep(PAUSE)
    return len(open_now) - before


def serve(connection: Connection, events: int) -> bool:
    """Read or write when a connection is ready; return whether it stays open."""
    with suppress(BlockingIOError):
        try:
            if events & ~select.EPOLLOUT and not connection.receive():
                return False
            return connection.send()
        except ConnectionError:
            return False
    return True


if __name__ == "__main__":
    load.main(lambda values: run(Plan(**values)))
