"""Upload under faults: clients that leave or stall, full disks, sudden death, drains."""

import asyncio
import errno
import hashlib
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from {{cookiecutter.package_name}}.engine.storage import writer

from .. import stores
from ..peer import PATIENCE
from ..service import SOAK, Service, ServiceProcess
from ..storage.stored import bytes_of, files
from .uploads import digest, head, left_behind, sha256, swept


@pytest.mark.trap("U1")
async def test_a_client_that_leaves_mid_upload_leaves_no_file(
    service: Service, tmp_path: Path
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(head(1000) + b"x" * 400)
        peer.reset()

    exchange = await service.ended("POST /files")
    assert await files(service) == []
    assert left_behind(tmp_path) == []
    assert exchange.outcome == "client_abort"


@pytest.mark.trap("U3")
async def test_a_failing_upload_leaves_the_good_file_of_its_name_alone(service: Service) -> None:
    good = random.randbytes(100_000)
    async with service.client() as client, service.raw_connection() as peer:
        stored = await client.post("/files?filename=f", content=good)
        await service.ended("POST /files")
        await peer.send(head(1000) + b"x" * 400)
        peer.reset()
        await service.ended("POST /files")

    assert sha256(await bytes_of(service, stored.json()["id"])) == sha256(good)


@pytest.mark.trap("U11")
async def test_a_refused_body_is_not_swallowed(serve: Any) -> None:
    service: Service = await serve(upload={"max_size": "64 KiB"})
    sent = 0
    async with service.raw_connection() as peer:
        await peer.send(head(400 << 20))
        assert b" 413 " in await peer.read_head()
        with pytest.raises(ConnectionError):
            while sent < 400 << 20:
                await peer.send(b"x" * 65536)
                sent += 65536

    exchange = await service.ended("POST /files")
    assert exchange.bytes_in < 20 << 20


@pytest.mark.trap("U13")
@pytest.mark.bound("H5")
async def test_a_body_that_stalls_is_answered_with_408(service: Service, tmp_path: Path) -> None:
    async with service.raw_connection() as peer:
        await peer.send(head(1000) + b"x")

        assert b" 408 " in await peer.read_head()
    assert await service.outcome_of("POST /files") == "timeout"
    assert left_behind(tmp_path) == []


@pytest.mark.bound("H6")
async def test_uploads_may_have_deadlines_of_their_own(serve: Any) -> None:
    service: Service = await serve(
        streaming={"idle_timeout": PATIENCE}, upload={"idle_timeout": 0.2}
    )
    async with service.raw_connection() as peer:
        await peer.send(head(1000) + b"x")

        assert b" 408 " in await peer.read_head()


@pytest.mark.trap("U13")
async def test_a_body_that_trickles_is_answered_with_408(serve: Any) -> None:
    service: Service = await serve(streaming={"idle_timeout": 0.4, "min_rate": 1000})

    async def trickle(peer: Any) -> None:
        for _ in range(200):
            await peer.send(b"x")
            await asyncio.sleep(0.05)  # The client is slow; the test does not wait for an event.

    async with service.raw_connection() as peer:
        await peer.send(head(1000))
        sending = asyncio.create_task(trickle(peer))
        assert b" 408 " in await peer.read_head()
        sending.cancel()


@pytest.mark.local
@pytest.mark.trap("U4")
async def test_a_full_disk_is_told_and_leaves_nothing(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with service.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(writer, "write_at", full)
            response = await client.post("/files", content=b"abc")
        assert response.status_code == 507
        assert left_behind(tmp_path) == []
        assert (await client.post("/files", content=b"abc")).status_code == 201


@pytest.mark.local
@pytest.mark.trap("U15")
async def test_success_is_said_after_the_bytes_are_durable(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    async with service.client() as client:
        response = await client.post("/files", content=b"x")

    assert response.status_code == 201
    assert len(synced) >= 2  # The file, and its directory.


@pytest.mark.local
@pytest.mark.trap("U12")
async def test_a_disk_that_hangs_does_not_hold_up_the_loop(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    real = writer.write_at

    def hang(descriptor: int, chunks: list[Any], offset: int) -> int:
        entered.set()
        release.wait(2 * PATIENCE)
        return real(descriptor, chunks, offset)

    async with service.client() as client:
        monkeypatch.setattr(writer, "write_at", hang)
        upload = asyncio.create_task(client.post("/files", content=b"x" * (1 << 20)))
        assert await anyio.to_thread.run_sync(entered.wait, PATIENCE)
        try:
            assert (await client.get("/health/live")).status_code == 200
        finally:
            release.set()
        assert (await upload).status_code == 201


@pytest.mark.slow
async def test_the_loop_stays_responsive_while_uploads_run(serve: Any) -> None:
    # The client of this test is busy too, and may delay its own uploads.
    service: Service = await serve(streaming={"idle_timeout": PATIENCE})
    body = random.randbytes(32 << 20)
    async with service.client() as client:
        uploads = [asyncio.create_task(client.post("/files", content=body)) for _ in range(4)]
        pings = 0
        while not all(upload.done() for upload in uploads):
            assert (await client.get("/health/live")).status_code == 200
            pings += 1

    assert pings > 5
    assert all(upload.result().status_code == 201 for upload in uploads)


@pytest.mark.trap("U2", "U16")
@pytest.mark.slow
async def test_half_a_body_is_nothing_after_a_sudden_death(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with ServiceProcess(tmp_path) as process, process.raw_connection() as peer:
        await peer.send(head(16 << 20) + bytes(8 << 20))
        async with asyncio.timeout(PATIENCE):
            while stores.largest(data) < 1 << 20:
                await asyncio.sleep(0.01)  # No event shows that bytes have been stored.
        process.kill()
        await process.exit_code()

    async with Service(storage={"url": f"file:{data}"}) as service:
        assert await files(service) == []
        await swept(service, tmp_path)
        assert left_behind(tmp_path) == []


@pytest.mark.parametrize("round_", range(SOAK))
@pytest.mark.slow
async def test_sudden_death_mid_upload_leaves_no_file_and_no_part(
    tmp_path: Path, round_: int
) -> None:
    """Kill the service when a random share of 20 uploads has arrived, and check the files."""
    choice = random.Random(round_)
    bodies = [choice.randbytes(choice.randrange(1, 2 << 20)) for _ in range(20)]
    deadly = choice.randrange(sum(map(len, bodies)))
    arrived = 0
    acknowledged = []

    async def upload(process: ServiceProcess, body: bytes) -> None:
        nonlocal arrived
        async with process.raw_connection() as peer:
            await peer.send(head(len(body), f"Repr-Digest: {digest('sha-256', body)}"))
            for start in range(0, len(body), 65536):
                await peer.send(body[start : start + 65536])
                arrived += 65536
                if arrived >= deadly:
                    process.kill()
            await peer.read_until(b'"id":"')
            acknowledged.append((await peer.read_until(b'"'))[:-1].decode())

    async with ServiceProcess(tmp_path) as process:
        uploads = (upload(process, body) for body in bodies)
        ended = await asyncio.gather(*uploads, return_exceptions=True)
        assert any(isinstance(end, EOFError | ConnectionError) for end in ended)

    async with Service(storage={"url": f"file:{tmp_path / 'data'}"}) as service:
        await swept(service, tmp_path)
        visible = [record.id for record in await files(service)]
        stored = [hashlib.sha256(await bytes_of(service, file_id)).digest() for file_id in visible]
    assert set(acknowledged) <= set(visible)
    assert set(stored) <= {hashlib.sha256(body).digest() for body in bodies}
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.slow
async def test_the_memory_is_flat_whatever_the_size(tmp_path: Path) -> None:
    size = min(SOAK, 16) * (128 << 20)
    block = random.randbytes(1 << 20)
    async with ServiceProcess(tmp_path) as process, process.raw_connection() as peer:
        await peer.send(head(1 << 20) + block)
        assert b" 201 " in await peer.read_head()
        idle = process.peak_memory()

        await peer.send(head(size))
        for _ in range(size >> 20):
            await peer.send(block)
        assert b" 201 " in await peer.read_head()

        assert process.peak_memory() - idle < 16 << 20


async def test_an_upload_during_a_drain_is_refused_and_one_under_way_goes_on(
    service: Service,
) -> None:
    async with service.raw_connection() as peer, service.client() as client:
        await peer.send(head(3, "Expect: 100-continue"))
        await peer.read_until(b"100 Continue\r\n\r\n")
        await service.call(service.app.state.kernel.drain.begin)

        refused = await client.post("/files", content=b"x")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        await peer.send(b"abc")
        assert b" 201 " in await peer.read_head()


@pytest.mark.bound("H8")
async def test_more_uploads_than_there_are_slots_are_refused(serve: Any) -> None:
    service: Service = await serve(streaming={"max_streams": 1, "idle_timeout": PATIENCE})
    async with service.raw_connection() as peer, service.client() as client:
        await peer.send(head(3, "Expect: 100-continue"))
        await peer.read_until(b"100 Continue\r\n\r\n")

        refused = await client.post("/files", content=b"x")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await client.get("/health/live")).status_code == 200

        await peer.send(b"abc")
        await peer.read_head()
        assert (await client.post("/files", content=b"x")).status_code == 201


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.slow
async def test_an_upload_that_the_drain_has_no_time_for_is_answered_with_503(
    tmp_path: Path,
) -> None:
    limits = {"SERVER__DRAIN_TIMEOUT": "1 s"}
    async with ServiceProcess(tmp_path, **limits) as process, process.raw_connection() as peer:
        await peer.send(head(3, "Expect: 100-continue"))
        await peer.read_until(b"100 Continue\r\n\r\n")
        process.terminate()

        assert b" 503 " in await peer.read_head()
        assert await process.exit_code() == 0
    assert left_behind(tmp_path) == []
