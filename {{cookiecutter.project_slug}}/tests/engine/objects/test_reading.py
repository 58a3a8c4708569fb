"""Ranges of objects, also while connections are lost."""

import asyncio
import errno
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing
from math import inf
from urllib.parse import SplitResult, urlsplit

import pytest

from {{cookiecutter.package_name}}.engine.kernel.problem import Problem
from {{cookiecutter.package_name}}.engine.objects.bucket import Bucket
from {{cookiecutter.package_name}}.engine.storage.s3 import reading
from {{cookiecutter.package_name}}.engine.storage.s3.pool import S3Pool
from {{cookiecutter.package_name}}.engine.storage.s3.reading import (
    CHUNK,
    LEAST,
    DirectBody,
    S3File,
    host_of,
)

from ..peer import PATIENCE
from .faults import FaultProxy

pytestmark = pytest.mark.anyio
DATA = random.randbytes(3_000_000)


#: Requests of ranges without the client.
DIRECT = "^GET .*X-Amz-Signature="
direct_only = pytest.mark.parametrize("pool", ["direct"], indirect=True)


@pytest.fixture(params=["direct", "client"])
async def pool(
    proxy: FaultProxy,
    bucket_url: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> AsyncIterator[S3Pool]:
    """The pool of a bucket with an object `a`; large ranges are received in two ways."""
    monkeypatch.setattr(reading, "RETRY_SECONDS", 0.001)
    bucket = Bucket(bucket_url, proxy.url)
    bucket.put(bucket.key("a"), DATA)
    async with bucket.connected() as client:
        pool = S3Pool(client, bucket, 1)
        if request.param == "client":
            pool.pause_direct(inf)
        yield pool
    bucket.close()


async def read(pool: S3Pool, start: int, stop: int, name: str = "a") -> bytes:
    async with aclosing(S3File(pool, pool.bucket.key(name)).parts(start, stop)) as chunks:
        found = [chunk async for chunk in chunks]
    assert all(0 < len(chunk) <= CHUNK for chunk in found)
    return b"".join(found)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 3_000_000), (0, 1), (2_999_999, 3_000_000), (17, 1_000_000), (5, 5)]
)
async def test_a_range_has_its_bytes(pool: S3Pool, start: int, stop: int) -> None:
    assert await read(pool, start, stop) == DATA[start:stop]


@pytest.mark.parametrize("step", [600, -600])
async def test_near_ranges_are_read_together(pool: S3Pool, proxy: FaultProxy, step: int) -> None:
    seen = proxy.add(r"^GET .*/a")
    file = S3File(pool, pool.bucket.key("a"), len(DATA))
    first = 1_500_000 if step < 0 else len(DATA) - 1_500_000
    for start in range(first, first + 2000 * step, step):
        async with aclosing(file.parts(start, start + 500)) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == DATA[start : start + 500]
    assert seen.count < 10


async def test_a_lost_connection_is_replaced(pool: S3Pool, proxy: FaultProxy) -> None:
    fault = proxy.add("^GET ", times=20, cut_response=100_000)

    assert await read(pool, 10, 2_900_000) == DATA[10:2_900_000]
    assert fault.count == 20


@direct_only  # Afterwards the client is asked.
async def test_a_server_that_recovers_is_read_on(pool: S3Pool, proxy: FaultProxy) -> None:
    proxy.add("^GET ", times=1, cut_response=100_000)
    proxy.add("^GET ", times=6, status=503)

    assert await read(pool, 0, 2_000_000) == DATA[:2_000_000]


async def test_connections_that_are_lost_at_once_are_an_error(
    pool: S3Pool, proxy: FaultProxy
) -> None:
    proxy.add("^GET ", times=1, cut_response=100_000)
    proxy.add("^GET ", cut_response=0)
    received = 0
    with pytest.raises(Problem) as failed:
        async for chunk in S3File(pool, pool.bucket.key("a")).parts(0, 2_000_000):
            received += len(chunk)

    assert failed.value.status_code == 503
    assert 0 < received <= 100_000


@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_a_missing_object_is_not_found_before_the_first_byte(pool: S3Pool, size: int) -> None:
    with pytest.raises(Problem) as missing:
        await read(pool, 0, size, "b")
    assert missing.value.status_code == 404


@pytest.mark.parametrize("start", [2_000_000, 3_000_000, 4_000_000])
async def test_an_object_that_is_too_short_is_an_error(pool: S3Pool, start: int) -> None:
    with pytest.raises(EOFError, match="shorter than its record"):
        await read(pool, start, 5_000_000)


async def test_another_object_with_the_same_key_is_not_mixed_in(
    pool: S3Pool, proxy: FaultProxy
) -> None:
    proxy.add("^GET ", times=1, cut_response=100_000)
    async with aclosing(S3File(pool, pool.bucket.key("a")).parts(0, 2_000_000)) as chunks:
        await anext(chunks)
        await asyncio.to_thread(pool.bucket.put, pool.bucket.key("a"), bytes(3_000_000))
        with pytest.raises(EOFError):
            async for _ in chunks:
                pass


async def test_a_reader_that_stops_stops_the_server(pool: S3Pool, proxy: FaultProxy) -> None:
    """Memory does not grow while a client does not read."""
    pool.bucket.put(pool.bucket.key("large"), bytes(64 << 20))
    before, last = proxy.passed, -1
    async with aclosing(S3File(pool, pool.bucket.key("large")).parts(0, 64 << 20)) as chunks:
        await anext(chunks)
        async with asyncio.timeout(PATIENCE):
            while last != proxy.passed:
                last = proxy.passed
                await asyncio.sleep(0.1)
    assert last - before < 32 << 20


@direct_only
async def test_large_ranges_are_received_without_the_client(
    pool: S3Pool, proxy: FaultProxy
) -> None:
    await read(pool, 0, 1 << 20)
    assert proxy.count(DIRECT) == 0
    await read(pool, 0, (1 << 20) + 1)
    await read(pool, 500, 2_900_000)
    assert proxy.count(DIRECT) == 2


def reply(
    status: str = "206 Partial Content",
    first: int = 0,
    length: str = "Content-Length: 2000000",
    tag: str = "ETag: x",
) -> bytes:
    """Return a response to a request of the first 2,000,000 bytes, with the wrong ones."""
    fields = [f"HTTP/1.1 {status}", f"Content-Range: bytes {first}-1999999/3000000", length, tag]
    return "\r\n".join([*fields, "", ""]).encode() + bytes(2_000_000)


@direct_only
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: ",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        reply(status="200 OK"),
        reply(status="503 Slow Down"),
        reply(first=1),
        reply(length="Content-Length: 1000000"),
        reply(length="Transfer-Encoding: chunked"),
        reply(length="Content-Length: 2000000\r\nTransfer-Encoding: chunked"),
        reply(length="Content-Length: 2000000\r\nContent-Length: 1000000"),
        reply(tag='ETag: "x\r\n x"'),
        reply(tag="X: x"),
        reply(tag=f"X: {'x' * 100_000}"),
    ],
    ids=[
        *("lost", "cut", "other", "200", "503", "range", "length", "chunked", "both", "twice"),
        *("folded", "untagged", "long"),
    ],
)
async def test_another_response_than_the_range_is_left_to_the_client(
    pool: S3Pool, proxy: FaultProxy, answer: bytes
) -> None:
    proxy.add(DIRECT, times=1, reply=answer)

    assert await read(pool, 0, 2_000_000) == DATA[:2_000_000]


@direct_only
async def test_after_an_error_of_the_server_the_client_is_asked_for_a_while(
    pool: S3Pool, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "HEAD_SECONDS", 0.2)
    proxy.add(DIRECT, times=1, hold_response=True)
    before = asyncio.get_running_loop().time()
    for _ in range(2):
        assert await read(pool, 0, 2_000_000) == DATA[:2_000_000]

    assert proxy.count(DIRECT) == 1
    assert pool.direct_from >= before + 0.2 + reading.PAUSE_SECONDS


@direct_only
async def test_a_missing_or_short_object_does_not_change_how_others_are_read(
    pool: S3Pool, proxy: FaultProxy
) -> None:
    with pytest.raises(Problem):
        await read(pool, 0, 2_000_000, "b")
    with pytest.raises(EOFError):
        await read(pool, 2_000_000, 5_000_000)
    assert await read(pool, 0, 2_000_000) == DATA[:2_000_000]
    assert proxy.count(DIRECT) == 3


async def test_another_object_is_not_mixed_in_by_a_server_that_ignores_the_condition(
    pool: S3Pool, proxy: FaultProxy
) -> None:
    proxy.add("^GET ", times=1, cut_response=100_000)
    proxy.add("^GET ", reply=reply(first=100_000, length="Content-Length: 1900000"))

    with pytest.raises(EOFError, match="replaced"):
        await read(pool, 0, 2_000_000)


async def test_a_server_that_ignores_the_range_is_an_error(pool: S3Pool, proxy: FaultProxy) -> None:
    proxy.add("^GET ", reply=reply(first=17))

    with pytest.raises(Problem) as failed:
        await read(pool, 0, 2_000_000)
    assert failed.value.status_code == 503


@direct_only
async def test_a_server_that_stops_to_send_is_asked_again(
    pool: S3Pool, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READ_SECONDS", (0, 0.2))
    pool.bucket.put(pool.bucket.key("large"), bytes(64 << 20))
    received = 0
    async with aclosing(S3File(pool, pool.bucket.key("large")).parts(0, 64 << 20)) as chunks:
        async for chunk in chunks:
            if not received:
                proxy.freeze()
                asked = proxy.add("^GET ")
                thawing = asyncio.create_task(asyncio.to_thread(asked.wait))
                thawing.add_done_callback(lambda _: proxy.thaw())
            received += len(chunk)
    assert received == 64 << 20
    assert asked.count == 1
    await thawing


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection."""
    ends = socket.socketpair()
    with ends[0], ends[1]:
        ends[0].setblocking(False)
        ends[1].setblocking(False)
        yield ends


Ends = tuple[socket.socket, socket.socket]


async def test_other_tasks_run_while_bytes_are_always_ready(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LEAST", 2)
    monkeypatch.setattr(reading, "CHUNK", 2)
    ends[1].send(bytes(3000))
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    body = DirectBody(ends[0], '"a"', b"", 3000)
    for _ in range(1500):
        assert await body.read()
    assert turns >= 1500
    other.cancel()


@pytest.mark.parametrize(("quick", "largest"), [(0, LEAST), (inf, CHUNK)])
async def test_chunks_are_small_for_a_slow_client(
    ends: Ends, quick: float, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "QUICK_SECONDS", quick)
    body, asked = DirectBody(ends[0], '"a"', b"", 32 * CHUNK), set()
    receive = body._receive

    async def recording(size: int) -> bytes:
        asked.add(size)
        return await receive(size)

    monkeypatch.setattr(body, "_receive", recording)
    loop = asyncio.get_running_loop()
    sending = asyncio.create_task(loop.sock_sendall(ends[1], bytes(32 * CHUNK)))
    while await body.read():
        pass
    await sending
    assert max(asked) == largest


async def test_every_error_of_the_network_is_a_lost_connection() -> None:
    class Unreachable:
        def recv(self, size: int) -> bytes:
            raise OSError(errno.EHOSTUNREACH, "No route to host")

    with pytest.raises(ConnectionError, match="No route to host"):
        await DirectBody(Unreachable(), '"a"', b"", 10).read()  # type: ignore[arg-type]


@direct_only
async def test_an_address_that_does_not_reply_is_passed_over(
    pool: S3Pool, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, ExitStack() as stack:
        for _ in range(4):  # Its queue is full, so that it drops further connections.
            each = stack.enter_context(socket.socket())
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        [found] = await loop.getaddrinfo(
            "127.0.0.1", urlsplit(proxy.url).port, type=socket.SOCK_STREAM
        )
        addresses = [(*found[:4], silent.getsockname()), found]

        async def both(*_: object, **__: object) -> list[object]:
            return [*addresses]

        monkeypatch.setattr(loop, "getaddrinfo", both)
        monkeypatch.setattr("random.shuffle", lambda _: None)
        assert await read(pool, 0, 2_000_000) == DATA[:2_000_000]
    assert proxy.count(DIRECT) == 1


@direct_only
async def test_a_reader_that_is_cancelled_leaves_no_connection(
    pool: S3Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    async def connected(url: SplitResult) -> socket.socket:
        opened.append(await connect(url))
        return opened[-1]

    connect = reading._connected
    monkeypatch.setattr(reading, "_connected", connected)
    for turns in range(0, 200, 2):
        task = asyncio.create_task(read(pool, 0, 2_000_000))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    assert opened
    assert all(each.fileno() == -1 for each in opened)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://minio:9000/files?X-Amz-Date=1", "minio:9000"),
        ("http://user:secret@Minio:80/files", "minio"),
        ("http://[::1]:8333/files", "[::1]:8333"),
        ("http://[::1]/files", "[::1]"),
    ],
)
def test_the_host_of_a_request_is_the_one_that_is_signed(url: str, host: str) -> None:
    assert host_of(urlsplit(url)) == host


@direct_only
async def test_a_server_that_does_not_reply_is_left_to_the_client(
    pool: S3Pool, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "HEAD_SECONDS", 0.2)
    held = proxy.add(DIRECT, times=1, hold_response=True)

    assert await read(pool, 0, 2_000_000) == DATA[:2_000_000]
    assert held.count == 1


@pytest.mark.parametrize(
    ("endpoint_url", "proxies", "is_direct"),
    [
        ("http://127.0.0.1:1", {}, True),
        ("https://127.0.0.1:1", {}, False),
        (None, {}, False),
        ("http://127.0.0.1:1", {"HTTP_PROXY": "http://127.0.0.1:2"}, False),
        ("http://127.0.0.1:1", {"HTTPS_PROXY": "http://127.0.0.1:2"}, True),
        (
            "http://127.0.0.1:1",
            {"HTTP_PROXY": "http://127.0.0.1:2", "NO_PROXY": "127.0.0.1"},
            True,
        ),
    ],
)
def test_the_client_is_only_left_out_without_tls_and_a_proxy(
    endpoint_url: str | None,
    proxies: dict[str, str],
    is_direct: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    bucket = Bucket("s3://files", endpoint_url)
    assert bucket.is_direct == is_direct
    bucket.close()
