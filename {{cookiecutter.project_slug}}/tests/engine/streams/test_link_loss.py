"""A link that goes down: no connection is reset, and the service has to detect it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.engine.kernel import RequestBody
from {{cookiecutter.package_name}}.engine.streams import ByteStream
from {{cookiecutter.package_name}}.engine.streams.file_parts import FilePart

from ..link import Link, LinkedService, linked
from ..peer import Peer
from .test_pull import Source

HUGE = 1 << 40


@pytest.fixture
def link() -> Iterator[Link]:
    with linked() as made:
        yield made


class Streams:
    """A route for every direction: bytes and a file are sent, a body is received."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = Source()
        self.router = APIRouter()
        self.router.get("/bytes", response_class=ByteStream)(self.send)
        self.router.get("/file", response_class=ByteStream)(self.send_file)
        self.router.post("/body")(self.take)

    async def send(self) -> ByteStream:
        return ByteStream(self.source.endless())

    async def send_file(self) -> ByteStream:
        size = self.path.stat().st_size

        async def parts() -> Any:
            with self.path.open("rb") as file:
                for part in FilePart(file.fileno(), 0, size).turns():
                    yield part

        return ByteStream(parts(), headers={"Content-Length": str(size)})

    async def take(self, request: Request) -> int:
        return sum([len(chunk) async for chunk in RequestBody(request, limit=HUGE)])


async def read_on(peer: Peer) -> None:
    while await asyncio.get_running_loop().sock_recv(peer._sock, 1 << 20):
        pass


async def write_on(peer: Peer) -> None:
    while True:
        await peer.send(bytes(1 << 16))


@pytest.mark.trap("D9")
@pytest.mark.slow
async def test_what_is_open_when_a_link_is_lost_ends_within_its_deadline(
    link: Link, sections: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(HUGE)  # A sparse file.
    streams = Streams(path)
    async with LinkedService(link, streams.router, **sections) as service:
        peers = [await link.connect(service) for _ in range(3)]
        await peers[0].get("/bytes")
        await peers[1].get("/file")
        await peers[2].send(b"POST /body HTTP/1.1\r\nHost: x\r\n")
        await peers[2].send(b"Content-Length: %d\r\n\r\n" % HUGE)
        acts = [read_on(peers[0]), read_on(peers[1]), write_on(peers[2])]
        work = [asyncio.create_task(act) for act in acts]
        async with service.client() as client:
            for _ in range(20):  # All streams make progress while the link is up.
                assert (await client.get("/health/live")).status_code == 200
        link.lose()

        assert await service.outcome_of("GET /bytes") == "slow_client"
        assert await service.outcome_of("GET /file") == "slow_client"
        assert await service.outcome_of("POST /body") == "timeout"
        assert streams.source.closed.is_set()
        for task in work:
            task.cancel()
