"""Send an attack as fast as a server takes it, over connections that are opened again and again."""

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
#: Seconds that a connection waits for a response before it is given up.
WAIT = 1.0
#: Of a server that takes no connection: seconds until the next attempt.
PAUSE = 0.01
#: Out of the way of what measures how the server does.
NICENESS = 10


@dataclass(frozen=True)
class Plan:
    """For how many `seconds` so many `connections` attack."""

    port: int
    attack: str
    theirs: bool
    connections: int
    seconds: float

    def __post_init__(self) -> None:
        load.within_bounds(self.connections, 0)


@dataclass(frozen=True)
class Attacked(Load):
    """What was sent, and over how many connections in turn."""

    sent: int = 0
    opened: int = 0


class Connection:
    """One hostile client: a socket that does not block, and what it sends next."""

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
        #: Whether nothing more is sent until there is a response.
        self.waiting = attack.waits

    def send(self) -> bool:
        """Send what fits; return whether there is more."""
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
        """Whether the server has not responded for so long that another attempt is worth more."""
        return self.waiting and now - self.sent_at > WAIT

    def receive(self) -> bool:
        """Take what has come; return whether the server keeps the connection."""
        if not self.socket.recv(READ):
            return False
        self.waiting = False
        return True


def with_host(blocks: Iterable[bytes], host: bytes) -> Iterator[bytes]:
    """Fill in the host, once for blocks that come again."""
    before = filled = b""
    for each in blocks:
        if each is not before:
            before, filled = each, each.replace(b"{host}", host)
        yield filled


def run(plan: Plan) -> Attacked:
    """Attack until the time is over."""
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
    """Open the connections that are missing; return how many that were."""
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
    """Do what a connection is ready for; return whether it goes on."""
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
