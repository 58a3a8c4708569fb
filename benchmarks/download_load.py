"""Download from one server, at full speed or slowly, and print the duration."""

import socket
import time
from dataclasses import dataclass

import load
from load import HOST, Load

BLOCK = 1 << 20
#: A slow client reads this number of bytes at this interval, with a small receive buffer.
SIP, SIP_EVERY = 1 << 10, 0.1


@dataclass(frozen=True)
class Plan:
    """`downloads` at once, each repeated `times` times, of `size` bytes each time."""

    port: int
    path: str
    downloads: int
    size: int
    times: int = 1
    slow: float = 0
    """Seconds for which all of them take hardly anything, and leave then."""

    def __post_init__(self) -> None:
        load.within_bounds(self.downloads, self.downloads * self.size * self.times)


def ask(plan: Plan, sock: socket.socket) -> None:
    head = f"GET {plan.path} HTTP/1.1\r\nHost: {HOST}:{plan.port}\r\nConnection: close\r\n\r\n"
    sock.sendall(head.encode())


def download(plan: Plan, buffer: memoryview) -> None:
    """Read one response to its end."""
    with load.connect(plan.port) as sock:
        ask(plan, sock)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            data = sock.recv(4096)
            if not data:
                raise OSError(f"{plan.path}: {answer!r}")
            answer += data
        head, received = answer[:end], len(answer) - end - 4
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(f"{plan.path}: {answer!r}")
        while count := sock.recv_into(buffer):
            received += count
    declared = load.LENGTH.search(head)
    # Without a length the body is chunked; the chunk headers are counted as well.
    if received < plan.size or (declared and not received == plan.size == int(declared[1])):
        raise OSError(f"{plan.path}: {received} of {plan.size} bytes")


def sip(plan: Plan) -> None:
    """Repeatedly read a little from every connection."""
    sockets = [load.connect(plan.port, {socket.SO_RCVBUF: SIP}) for _ in range(plan.downloads)]
    for sock in sockets:
        ask(plan, sock)
    until = time.monotonic() + plan.slow
    while time.monotonic() < until:
        for sock in sockets:
            if not sock.recv(SIP):
                raise OSError(f"{plan.path}: the response ended early")
        time.sleep(SIP_EVERY)
    for sock in sockets:
        sock.close()


def run(plan: Plan) -> Load:
    """Execute the plan."""
    if plan.slow:
        return load.at_once(1, lambda _: sip(plan))

    def repeat(_: int) -> None:
        buffer = memoryview(bytearray(BLOCK))
        for _ in range(plan.times):
            download(plan, buffer)

    return load.at_once(plan.downloads, repeat)


if __name__ == "__main__":
    load.main(lambda values: run(Plan(**values)))
