"""Upload: a file is there when all of it is durable, or it is not there at all."""

import asyncio
import base64
import errno
import hashlib
import os
import random
import threading
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from .service import PATIENCE, SOAK, Service, ServiceProcess

FORM = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nx\r\n--b--\r\n'


def digest(algorithm: str, data: bytes) -> str:
    value = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(value).decode()}:"


def head(length: int, *headers: str) -> bytes:
    lines = ["POST /files?filename=f HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_a_raw_body_becomes_a_file(service: Service) -> None:
    data = random.randbytes(3 << 20)
    async with service.client() as client:
        response = await client.post(
            "/files?filename=a.bin", content=data, headers={"Content-Type": "application/x-test"}
        )

    assert response.status_code == 201
    record = response.json()
    assert response.headers["location"] == record["url"]
    assert record["url"].startswith(service.url)
    assert (record["filename"], record["content_type"]) == ("a.bin", "application/x-test")
    assert (record["size"], record["digest"], record["owner"]) == (len(data), None, None)
    assert await service.stored(record["id"]) == data
    assert await service.outcome_of("POST /files") == "complete"


async def test_a_chunked_body_and_an_empty_one_become_files(service: Service) -> None:
    async def chunks() -> Any:
        for _ in range(3):
            yield b"abc"

    async with service.client() as client:
        chunked = (await client.post("/files", content=chunks())).json()
        empty = (await client.post("/files")).json()

    assert await service.stored(chunked["id"]) == b"abcabcabc"
    assert await service.stored(empty["id"]) == b""
    assert chunked["filename"] == "file"


@pytest.mark.trap("U1")
async def test_a_client_that_leaves_mid_upload_leaves_no_file(
    service: Service, tmp_path: Path
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(head(1000) + b"x" * 400)
        peer.reset()

    exchange = await service.ended("POST /files")
    assert await service.files() == []
    assert left_behind(tmp_path) == []
    assert exchange.outcome == "client_abort"


@pytest.mark.trap("U8")
async def test_a_file_is_invisible_until_it_is_complete(service: Service, tmp_path: Path) -> None:
    async with service.raw_connection() as peer, service.client() as client:
        await peer.send(head(3, "Expect: 100-continue"))
        await peer.read_until(b"100 Continue\r\n\r\n")  # Now the service has begun to store it.

        assert await service.files() == []
        assert len(left_behind(tmp_path)) == 2
        file_id = left_behind(tmp_path)[0].partition(".")[0]
        assert (await client.get(f"/files/{file_id}/record")).status_code == 404

        await peer.send(b"abc")
        assert b" 201 " in await peer.read_head()
    assert len(await service.files()) == 1


@pytest.mark.trap("U9")
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused(serve: Any, tmp_path: Path, declared: bool) -> None:
    async def chunks() -> Any:
        for _ in range(512):
            yield b"x" * 1024

    service: Service = await serve(upload={"max_size": "64 KiB"})
    async with service.client() as client:
        body: Any = b"x" * 512 * 1024 if declared else chunks()
        response = await client.post("/files", content=body)

    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert await service.outcome_of("POST /files") == "rejected"
    assert left_behind(tmp_path) == []


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
    assert exchange.bytes_in < 2 << 20


async def test_a_client_that_waits_for_100_continue_sends_nothing_in_vain(serve: Any) -> None:
    service: Service = await serve(upload={"max_size": 10})
    async with service.raw_connection() as peer:
        await peer.send(head(1000, "Expect: 100-continue"))

        assert (await peer.read_head()).startswith(b"HTTP/1.1 413 ")
        await peer.read_to_end()
    assert (await service.ended("POST /files")).bytes_in == 0


@pytest.mark.trap("U13")
async def test_a_body_that_stalls_is_answered_with_408(service: Service, tmp_path: Path) -> None:
    async with service.raw_connection() as peer:
        await peer.send(head(1000) + b"x")

        assert b" 408 " in await peer.read_head()
    assert await service.outcome_of("POST /files") == "timeout"
    assert left_behind(tmp_path) == []


@pytest.mark.trap("U13")
async def test_a_body_that_trickles_is_answered_with_408(serve: Any) -> None:
    service: Service = await serve(streaming={"idle_timeout": 0.4, "min_rate": 1000})

    async def trickle(peer: Any) -> None:
        for _ in range(200):
            await peer.send(b"x")
            await asyncio.sleep(0.05)  # The slow client itself, not a wait for something.

    async with service.raw_connection() as peer:
        await peer.send(head(1000))
        sending = asyncio.create_task(trickle(peer))
        assert b" 408 " in await peer.read_head()
        sending.cancel()


@pytest.mark.trap("U4")
async def test_a_full_disk_is_told_and_leaves_nothing(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with service.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            response = await client.post("/files", content=b"abc")
        assert response.status_code == 507
        assert left_behind(tmp_path) == []
        assert (await client.post("/files", content=b"abc")).status_code == 201


@pytest.mark.trap("U6")
@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("../../evil", "evil"),
        ("/nowhere/at/all/evil", "evil"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("a\x00b\r\nc", "abc"),
        ("", "file"),
        ("..", "file"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("n" * 300 + ".txt", "n" * 251 + ".txt"),
        ("CON.txt", "_CON.txt"),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)
async def test_a_name_is_metadata_and_never_a_path(
    service: Service, tmp_path: Path, name: str, stored: str
) -> None:
    async with service.client() as client:
        response = await client.post("/files", params={"filename": name}, content=b"x")

    assert response.status_code == 201
    assert response.json()["filename"] == stored
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


async def test_a_name_can_come_from_content_disposition(service: Service) -> None:
    header = "attachment; filename=\"plain.txt\"; filename*=UTF-8''h%C3%A4llo.txt"
    async with service.client() as client:
        response = await client.post("/files", headers={"Content-Disposition": header})

    assert response.json()["filename"] == "hällo.txt"
    assert response.json()["content_type"] == "text/plain"


@pytest.mark.trap("U14")
@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
async def test_a_wrong_digest_is_refused(
    service: Service, tmp_path: Path, field: str, algorithm: str
) -> None:
    async with service.client() as client:
        right = await client.post("/files", content=b"x", headers={field: digest(algorithm, b"x")})
        wrong = await client.post("/files", content=b"y", headers={field: digest(algorithm, b"x")})
        unknown = await client.post("/files", content=b"y", headers={field: "md5=:AAAA:"})

    assert [right.status_code, wrong.status_code, unknown.status_code] == [201, 400, 201]
    assert len(await service.files()) == 2
    assert left_behind(tmp_path) == []


async def test_a_digest_is_answered_when_it_is_asked_for(service: Service) -> None:
    data = random.randbytes(1 << 20)
    async with service.client() as client:
        response = await client.post(
            "/files", content=data, headers={"Want-Repr-Digest": "sha-256=3, sha-512=8, md5=9"}
        )
        declined = await client.post("/files", headers={"Want-Repr-Digest": "sha-512=0"})

    assert response.headers["repr-digest"] == digest("sha-512", data)
    assert response.json()["digest"] == {"sha-512": digest("sha-512", data)[9:-1]}
    assert "repr-digest" not in declined.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "multipart/form-data; boundary=b"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Upload-Complete": "?0"}, 400),
        ({"Content-Digest": "nonsense"}, 400),
    ],
)
async def test_what_would_become_a_wrong_file_is_refused(
    service: Service, headers: dict[str, str], status: int
) -> None:
    async with service.client() as client:
        response = await client.post("/files", content=FORM, headers=headers)

    assert response.status_code == status
    assert await service.files() == []


@pytest.mark.trap("U7")
async def test_uploads_to_one_name_at_once_are_separate_files(service: Service) -> None:
    bodies = [bytes([number]) * (1 << 20) for number in range(8)]
    async with service.client() as client:
        responses = await asyncio.gather(
            *(client.post("/files?filename=same", content=body) for body in bodies)
        )

    stored = [await service.stored(response.json()["id"]) for response in responses]
    assert stored == bodies


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
    assert len(synced) >= 2  # The file, and the directory that names it.


@pytest.mark.trap("U12")
async def test_a_disk_that_hangs_does_not_hold_up_the_loop(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    real = os.write

    def hang(descriptor: int, data: memoryview) -> int:
        entered.set()
        release.wait(PATIENCE)
        return real(descriptor, data)

    async with service.client() as client:
        monkeypatch.setattr(os, "write", hang)
        upload = asyncio.create_task(client.post("/files", content=b"x" * (1 << 20)))
        await anyio.to_thread.run_sync(entered.wait, PATIENCE)
        try:
            assert (await client.get("/health/live", timeout=PATIENCE / 2)).status_code == 200
        finally:
            release.set()
        assert (await upload).status_code == 201


async def test_the_loop_stays_responsive_while_uploads_run(service: Service) -> None:
    body = random.randbytes(32 << 20)
    async with service.client() as client:
        uploads = [asyncio.create_task(client.post("/files", content=body)) for _ in range(4)]
        pings = 0
        while not all(upload.done() for upload in uploads):
            assert (await client.get("/health/live", timeout=2)).status_code == 200
            pings += 1

    assert pings > 5
    assert all(upload.result().status_code == 201 for upload in uploads)


@pytest.mark.trap("U2", "U16")
@pytest.mark.parametrize("round_", range(SOAK))
async def test_sudden_death_mid_upload_leaves_no_file_and_no_part(
    tmp_path: Path, round_: int
) -> None:
    """Kill the service when a random share of 20 uploads has arrived, and look what is there."""
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
        visible = [record.id for record in await service.files()]
        stored = [hashlib.sha256(await service.stored(file_id)).digest() for file_id in visible]
    assert set(acknowledged) <= set(visible)
    assert set(stored) <= {hashlib.sha256(body).digest() for body in bodies}
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a peak of memory")
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


def left_behind(tmp_path: Path) -> list[str]:
    """Return what lies among the parts: nothing, unless an upload is under way."""
    return sorted(path.name for path in (tmp_path / "data" / "parts").iterdir())
