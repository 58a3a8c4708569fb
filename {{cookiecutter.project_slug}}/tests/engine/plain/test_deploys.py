"""Plain streams in processes of their own: SIGTERM with many clients, and memory."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from ..peer import Peer, keep_port
from ..service import SOAK, ServiceProcess

CLIENTS = 50
#: MiB that are sent in one request.
LARGE = 64 * min(SOAK, 16)
MODULE = "tests.engine.plain.deployed"
SERVERS = ["one", "two", "granian"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


@pytest.fixture(params=SERVERS)
async def process(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    """The service on one process, two workers, or granian."""
    root = Path(__file__).parents[3]
    environment = {"STORAGE__URL": f"file:{tmp_path}", "SERVER__DRAIN_TIMEOUT": "2"}
    with keep_port() as kept:
        command = ["-m", MODULE]
        if request.param == "two":
            environment["WORKERS"] = "2"
        if request.param == "granian":
            if find_spec("granian") is None:
                pytest.skip("granian is not there")
            options = ["--interface=asgi", "--factory", "--host=127.0.0.1"]
            command = ["-m", "granian", *options, f"--port={kept.getsockname()[1]}"]
            command.append(f"{MODULE}:create_app")
        async with ServiceProcess(root, *command, **environment) as process:
            yield process
            # A worker of granian whose parent is killed ends its whole group of processes.
            process.terminate()
            await asyncio.wait_for(process.exit_code(), 12)


async def rest_of(peer: Peer) -> bytes:
    """Return what the peer receives until the connection is closed or reset."""
    try:
        return await peer.read_to_end()
    except ConnectionResetError:
        return b""


@pytest.mark.plain("R11", "R12")
async def test_streams_end_when_the_service_stops(process: ServiceProcess) -> None:
    async with AsyncExitStack() as stack:

        async def follow(path: str) -> Peer:
            peer: Peer = await stack.enter_async_context(process.raw_connection())
            await peer.get(path)
            await peer.read_until(b"item")
            return peer

        events = [await follow("/sse") for _ in range(CLIENTS)]
        others = [await follow(path) for path in ("/lines", "/streaming", "/raw")]
        process.terminate()
        for peer in events:
            received = await peer.read_to_end()
            assert b"retry: " in received
            assert received.endswith(b"0\r\n\r\n")
        for peer in others:
            assert not (await rest_of(peer)).endswith(b"0\r\n\r\n")
        assert await asyncio.wait_for(process.exit_code(), 12) == 0


async def test_a_failure_half_way_never_looks_complete(process: ServiceProcess) -> None:
    for path in ("/sse", "/lines", "/streaming", "/streaming-sync"):
        async with process.raw_connection() as peer:
            await peer.get(f"/failing{path}{path}", "Connection: close")
            received = await peer.read_until(b"item") + await rest_of(peer)
        assert not received.endswith(b"0\r\n\r\n"), path


@pytest.mark.plain("D3")
async def test_a_malformed_header_is_a_500(process: ServiceProcess) -> None:
    async with process.client() as client:
        assert (await client.get("/malformed")).status_code == 500


async def send_all(peer: Peer, count: int) -> None:
    """Send MiB, unless the server closes the connection before."""
    with suppress(OSError):
        async for chunk in mebibytes(count):
            await peer.send(chunk)


async def mebibytes(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * (1 << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_large_bodies_take_little_memory(tmp_path: Path) -> None:
    """A JSON body above the limit is refused; a large file is spooled to a disk."""
    root = Path(__file__).parents[3]
    environment = {"STORAGE__URL": f"file:{tmp_path}", "WORKERS": "1"}
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    async def parts(count: int) -> AsyncIterator[bytes]:
        yield form
        async for chunk in mebibytes(count):
            yield chunk
        yield b"\r\n--x--\r\n"

    async def send_file(count: int) -> httpx.Response:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        return await client.post("/file", content=parts(count), headers=headers)

    command = ["-m", MODULE]
    async with ServiceProcess(root, *command, **environment) as process, process.client() as client:
        await send_file(2)
        before = process.peak_memory()
        async with process.raw_connection() as peer:
            head = f"POST /json HTTP/1.1\r\nHost: test\r\nContent-Length: {5 * LARGE << 20}\r\n"
            await peer.send(f"{head}Content-Type: application/json\r\n\r\n".encode())
            sending = asyncio.create_task(send_all(peer, 5 * LARGE))
            refused = await peer.read_head()
            await asyncio.wait([sending])
        after_json = process.peak_memory()
        stored = await send_file(LARGE)
        after_file = process.peak_memory()

    assert refused.startswith(b"HTTP/1.1 413 ")
    assert after_json - before < 8 << 20
    assert (stored.status_code, stored.json()) == (200, LARGE << 20)
    assert after_file - after_json < 16 << 20
