"""More connections than a process may have: which are closed, and which requests are refused."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Request, WebSocket

from {{cookiecutter.package_name}}.engine.kernel import RequestBody
from {{cookiecutter.package_name}}.engine.kernel.kernel import REFUSALS
from {{cookiecutter.package_name}}.engine.server import capacity
from {{cookiecutter.package_name}}.engine.streams import ByteStream

from ..peer import PATIENCE, Peer
from ..service import Service, ServiceProcess, make_settings

#: The limit of these tests, and the connections below it: one is reserved for new requests.
CAP = 8
IN_PEACE = CAP - 1
HALF_A_HEAD = b"GET /health/live HTTP/1.1\r\nHost: test\r\n"
#: The service responds with 100 when it reads the body.
UPLOAD = (
    b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n"
    b"Expect: 100-continue\r\n\r\n"
)
DOWNLOAD = b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n"
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Connect = Callable[[], Awaitable[Peer]]
Beginning = Callable[[Peer], Awaitable[None]]


def routes() -> APIRouter:
    """Long exchanges: bodies, a response without end, and a silent one."""
    router = APIRouter()

    async def upload(request: Request) -> int:
        return sum([len(chunk) async for chunk in RequestBody(request, limit=1 << 30)])

    async def never() -> None:
        await asyncio.Event().wait()

    async def endless() -> AsyncGenerator[bytes]:
        while True:
            yield b"z" * 65536

    async def idle() -> AsyncGenerator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    router.websocket("/socket")(socket)
    router.post("/upload")(upload)
    router.post("/never")(never)
    router.get("/endless", response_class=ByteStream)(lambda: ByteStream(endless()))
    router.get("/idle", response_class=ByteStream)(lambda: ByteStream(idle()))
    return router


@pytest.fixture
def deadline() -> float:
    """Seconds for which a client may send or take nothing: more than a test lasts."""
    return PATIENCE * 2


@pytest.fixture
async def service(serve: Any, deadline: float) -> Service:
    limits = {"idle_timeout": deadline, "send_timeout": deadline, "min_rate": 1 << 30}
    server = {"max_connections": CAP}
    started: Service = await serve(routes(), streaming=limits, server=server)
    return started


@pytest.fixture
async def connect(service: Service) -> AsyncIterator[Connect]:
    """Open connections that stay until the test has ended."""
    async with AsyncExitStack() as stack:

        async def open_one() -> Peer:
            peer: Peer = await stack.enter_async_context(service.raw_connection())
            return peer

        yield open_one


async def say_nothing(peer: Peer) -> None:
    pass


async def say_half(peer: Peer) -> None:
    await peer.send(HALF_A_HEAD)


async def ask_once(peer: Peer) -> None:
    await peer.send(HALF_A_HEAD + b"\r\n")
    await peer.read_until(b"}")


async def stay_idle(peer: Peer) -> None:
    await peer.get("/idle")
    await peer.read_until(b"first")


async def read(peer: Peer) -> None:
    await peer.read_until(b"zzz")
    peer.unread = b""


async def write(peer: Peer) -> None:
    await peer.send(b"x" * 100_000)


async def trickle(peer: Peer) -> None:
    await peer.send(b"x")


async def many(connect: Connect, beginning: Beginning, number: int) -> list[Peer]:
    """Open connections, one after the other."""
    peers = []
    for _ in range(number):
        peers.append(await connect())
        await beginning(peers[-1])
    return peers


async def answer_to(connect: Connect, path: str) -> bytes:
    """Return the headers of the response to a new client."""
    peer = await connect()
    await peer.get(path, "Connection: close")
    return await peer.read_head()


async def closed(peer: Peer) -> None:
    """Return when the service has closed or reset a connection."""
    with suppress(ConnectionError):
        await peer.read_to_end()


@pytest.mark.trap("E3")
@pytest.mark.parametrize("beginning", [say_nothing, say_half, ask_once])
@pytest.mark.bound("H4")
async def test_the_oldest_connections_without_a_request_are_closed_first(
    connect: Connect, beginning: Beginning
) -> None:
    before = REFUSALS["idle"]
    peers = await many(connect, beginning, IN_PEACE + 3)
    for peer in peers[:3]:
        await closed(peer)
    assert REFUSALS["idle"] == before + 3
    for peer in peers[3:]:
        await peer.send((b"" if beginning is say_half else HALF_A_HEAD) + b"\r\n")
        await peer.read_until(b"}")


@pytest.mark.trap("E3")
async def test_a_connection_is_as_old_as_its_last_answer(connect: Connect) -> None:
    peers = await many(connect, ask_once, IN_PEACE)
    await ask_once(peers[0])
    await ask_once(await connect())

    await closed(peers[1])
    await ask_once(peers[0])


@pytest.mark.trap("E3")
@pytest.mark.parametrize("deadline", [0.4])
@pytest.mark.parametrize(
    ("request_", "then", "label", "outcome"),
    [
        (UPLOAD, say_nothing, "POST /upload", "timeout"),
        (UPLOAD, trickle, "POST /upload", "timeout"),
        (
            b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n",
            say_nothing,
            "GET /endless",
            "slow_client",
        ),
    ],
    ids=["sends nothing", "sends little", "reads nothing"],
)
@pytest.mark.bound("H4")
@pytest.mark.slow
async def test_a_slow_client_makes_room_when_its_deadline_ends_it(
    connect: Connect, service: Service, request_: bytes, then: Beginning, label: str, outcome: str
) -> None:
    await many(connect, stay_idle, IN_PEACE - 1)
    slow = await connect()
    await slow.send(request_)
    await slow.read_head()
    assert (await answer_to(connect, "/idle")).startswith(b"HTTP/1.1 503 ")

    ended = asyncio.ensure_future(service.outcome_of(label))
    while not ended.done():
        await asyncio.sleep(0)
        with suppress(ConnectionError):
            await then(slow)
    assert ended.result() == outcome
    assert (await answer_to(connect, "/idle")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
async def test_a_client_that_moves_or_waits_for_the_service_stays(connect: Connect) -> None:
    silent = await many(connect, stay_idle, IN_PEACE - 3)
    silent += await many(connect, say_nothing, 1)
    reader, writer = await connect(), await connect()
    await silent[-1].send(UPLOAD.replace(b"upload", b"never"))
    await reader.get("/endless")
    await writer.send(UPLOAD)
    await writer.read_head()

    for _ in range(20):
        await asyncio.gather(read(reader), write(writer))
        refused = await answer_to(connect, "/idle")
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in refused

    for peer in silent:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(closed(peer), 0.01)


@pytest.mark.trap("E4")
async def test_health_is_never_refused(connect: Connect) -> None:
    await many(connect, stay_idle, IN_PEACE)
    assert (await answer_to(connect, "/idle")).startswith(b"HTTP/1.1 503 ")
    assert (await answer_to(connect, "/health/live")).startswith(b"HTTP/1.1 200 ")


async def test_a_websocket_counts_and_stays(connect: Connect) -> None:
    async def upgrade(peer: Peer) -> None:
        await peer.send(UPGRADE)
        assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")

    sockets = await many(connect, upgrade, IN_PEACE)
    assert (await answer_to(connect, "/idle")).startswith(b"HTTP/1.1 503 ")
    for peer in sockets:
        await peer.send(b"\x89\x80mask")  # A ping.
        await peer.read_until(b"\x8a\x00")


async def test_files_count_as_well(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    free = os.dup(0)
    os.close(free)
    monkeypatch.setattr(capacity, "allowed", lambda: (free + 60) * 8 // 5)
    service: Service = await serve()
    async with AsyncExitStack() as stack:
        peers = []
        for _ in range((free + 60) // 2):  # Both ends of each connection are in this process.
            peers.append(await stack.enter_async_context(service.raw_connection()))
            await ask_once(peers[-1])
        await closed(peers[0])
        await ask_once(peers[-1])


@pytest.mark.parametrize(("allowed", "waiting"), [(256, 32), (1 << 16, 2048)])
def test_no_more_connections_are_accepted_at_once_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, allowed: int, waiting: int
) -> None:
    monkeypatch.setattr(capacity, "allowed", lambda: allowed)
    assert capacity.backlog() == waiting


@pytest.mark.bound("H3")
@pytest.mark.slow
async def test_a_connection_on_which_no_request_follows_is_closed(tmp_path: Path) -> None:
    process = ServiceProcess(tmp_path, SERVER__KEEP_ALIVE="1 s")
    async with process as service, service.raw_connection() as peer:
        await ask_once(peer)
        assert await peer.read_to_end() == b""


@pytest.mark.fault("F15")
def test_a_connection_waits_longer_than_the_balancers_in_front_keep_it() -> None:
    assert make_settings().server.keep_alive > 60
