"""Download from one server, at once or slowly, and say how long that took."""

import socket
import time
from dataclasses import dataclass

import load
from load import HOST, Load

BLOCK = 1 << 20
#: A slow client takes this much this often, through a receive buffer that holds hardly more.
SIP, SIP_EVERY = 1 << 10, 0.1


@dataclass(frozen=True)
class Plan:
    """What to ask for: `downloads` at once, each `times` over, of `size` bytes each time."""

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
    # Without a length there are chunks, whose sizes are counted here as well.
    if received < plan.size or (declared and not received == plan.size == int(declared[1])):
        raise OSError(f"{plan.path}: {received} of {plan.size} bytes")


def sip(plan: Plan) -> None:
    """Take a little from every connection, again and again."""
    sockets = [load.connect(plan.port, {socket.SO_RCVBUF: SIP}) for _ in range(plan.downloads)]
    for sock in sockets:
        ask(plan, sock)
    until = time.monotonic() + plan.slow
    while time.monotonic() < until:
        for sock in sockets:
            if not sock.recv(SIP):
                raise OSError(f"{plan.path}: it ended early")
        time.sleep(SIP_EVERY)
    for sock in sockets:
        sock.close()


def run(plan: Plan) -> Load:
    """Do all that the plan says."""
    if plan.slow:
        return load.at_once(1, lambda _: sip(plan))

    def repeat(_: int) -> None:
        buffer = memoryview(bytearray(BLOCK))
        for _ in range(plan.times):
            download(plan, buffer)

    return load.at_once(plan.downloads, repeat)


if __name__ == "__main__":
    load.main(lambda values: run(Plan(**values)))
