"""A real link between a client and the service, which a test can cut; Linux and root only.

Each end has its own network namespace. A socket stays in the namespace in which it was made, so a
thread enters it only to make the socket, and the service runs as usual.
"""

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from .peer import Peer
from .service import Service

CLONE_NEWNET = 0x40000000
#: Addresses for documentation (RFC 5737), which no network uses.
SERVICE, CLIENT = "192.0.2.1", "192.0.2.2"


class Link:
    """Two namespaces, and the link between them."""

    def __init__(self) -> None:
        name = token_hex(4)
        self.near, self.far = f"service-{name}", f"client-{name}"
        self.sockets: list[socket.socket] = []

    def up(self) -> None:
        try:
            for end in (self.near, self.far):
                ip("netns", "add", end)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("this machine lets not even root make a network")
        ip("-n", self.near, "link", "add", "end", "type", "veth", "peer", "end", "netns", self.far)
        for end, address in ((self.near, SERVICE), (self.far, CLIENT)):
            ip("-n", end, "address", "add", f"{address}/24", "dev", "end")
            ip("-n", end, "link", "set", "end", "up")

    def lose(self) -> None:
        """Take the client's end down: nothing arrives any more, without a reset."""
        ip("-n", self.far, "link", "set", "end", "down")

    async def connect(self, service: "LinkedService") -> Peer:
        address = service.far.getsockname()
        sock = await asyncio.to_thread(inside, self.far, lambda: socket.create_connection(address))
        sock.setblocking(False)
        self.sockets.append(sock)
        return Peer(sock)


class LinkedService(Service):
    """The service, which also listens at the other end of a link."""

    def __init__(self, link: Link, *routers: Any, **sections: Any) -> None:
        super().__init__(*routers, **sections)
        self.far = inside(link.near, lambda: socket.create_server((SERVICE, 0)))

    async def _serve(self) -> None:
        await self._server.serve(sockets=[self._socket, self.far])


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=check)  # noqa: S607


def inside(namespace: str, make: Callable[[], socket.socket]) -> socket.socket:
    """Make a socket in a network namespace."""

    def enter() -> socket.socket:
        with Path("/run/netns", namespace).open("rb") as file:
            assert ctypes.CDLL(None).setns(file.fileno(), CLONE_NEWNET) == 0
        return make()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()


@contextmanager
def linked() -> Iterator[Link]:
    """Make a link, and remove it after the test."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can make a network, and this one is Linux's")
    link = Link()
    try:
        link.up()
        yield link
    finally:
        for sock in link.sockets:
            sock.close()
        for end in (link.near, link.far):
            ip("netns", "delete", end, check=False)
