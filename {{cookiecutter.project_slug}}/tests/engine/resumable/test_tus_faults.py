"""tus 1.0.0 with faults: clients that vanish, stall, race or send too much, and crashes.

Core Protocol: "The Server SHOULD always attempt to store as much of the received data as possible."
"""

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..peer import PATIENCE
from ..service import SOAK, Service, ServiceProcess
from ..storage.stored import bytes_of
from ..upload.uploads import sha256
from .tus import Tus, begin_patch, id_of, patch_head, settle, was_cut

PATCH = "PATCH /uploads/{upload_id}"


@pytest.fixture
async def patient(serve: Any) -> Service:
    """A service whose idle timeout is longer than any test."""
    service: Service = await serve(streaming={"idle_timeout": 60})
    return service


@pytest.mark.spec("tus-C27")
@pytest.mark.parametrize("size", [1, 100_000, 3 << 20])
@pytest.mark.parametrize("way", ["reset", "close"])
async def test_what_came_before_a_client_vanished_is_kept(
    patient: Service, size: int, way: str
) -> None:
    data = random.randbytes(4 << 20)
    async with Tus(patient) as tus, patient.raw_connection() as peer:
        url = await tus.upload(len(data))
        await begin_patch(peer, url, 0, f"Content-Length: {len(data)}")
        await peer.send(data[:size])
        await settle(patient)
        peer.reset() if way == "reset" else peer.close()
        assert await patient.outcome_of(PATCH) == "client_abort"

        offset = await tus.offset(url)
        # A reset discards the buffers of the kernel; after a normal close they arrive.
        assert offset == size if way == "close" else 0 < offset <= size
        assert (await tus.patch(url, offset, data[offset:])).status_code == 204
    assert sha256(await bytes_of(patient, id_of(url))) == sha256(data)


@pytest.mark.spec("tus-C27")
@pytest.mark.parametrize("size", [1, 60_000, 3 << 20])
async def test_a_client_that_sends_and_leaves_in_order_loses_nothing(
    patient: Service, size: int
) -> None:
    data = random.randbytes(4 << 20)
    async with Tus(patient) as tus, patient.raw_connection() as peer:
        url = await tus.upload(len(data))
        await peer.send(patch_head(url, 0, f"Content-Length: {len(data)}") + data[:size])
        peer.close()
        await patient.ended(PATCH)

        assert await tus.offset(url) == size


@pytest.mark.spec("tus-C14", "tus-C27")
async def test_a_question_about_a_stalled_upload_is_answered_at_once(patient: Service) -> None:
    """A client on a new network sends HEAD while its old connection is still open."""
    async with Tus(patient) as tus, patient.raw_connection() as stalled:
        url = await tus.upload(6)
        await begin_patch(stalled, url, 0, "Content-Length: 6")
        await stalled.send(b"abc")
        await settle(patient)

        assert await tus.offset(url) == 3
        assert await was_cut(stalled)
        assert (await tus.patch(url, 3, b"def")).status_code == 204
    assert await bytes_of(patient, id_of(url)) == b"abcdef"


@pytest.mark.trap("U7")
@pytest.mark.spec("tus-C21", "tus-C24")
@pytest.mark.parametrize("length", ["Content-Length: 9", "Transfer-Encoding: chunked"])
async def test_the_newest_of_two_chunks_goes_on_where_the_other_was(
    patient: Service, length: str
) -> None:
    first = b"abc" if length.startswith("Content") else b"3\r\nabc\r\n"
    async with Tus(patient) as tus, patient.raw_connection() as older:
        url = await tus.upload(9)
        await begin_patch(older, url, 0, length)
        await older.send(first)
        await settle(patient)

        assert (await tus.patch(url, 0, b"XXX")).status_code == 409
        assert await was_cut(older)
        assert (await tus.patch(url, 3, b"def")).headers["upload-offset"] == "6"
        assert (await tus.patch(url, 6, b"ghi")).status_code == 204
    assert await bytes_of(patient, id_of(url)) == b"abcdefghi"


@pytest.mark.trap("U7")
@pytest.mark.spec("tus-C21", "tus-C24")
@pytest.mark.parametrize("round_", range(4 * SOAK))
async def test_chunks_that_race_for_one_offset_are_never_mixed(
    patient: Service, round_: int
) -> None:
    size = random.Random(round_).choice([1, 65_536, 1 << 20, (2 << 20) + 1])
    racers = [bytes([65 + number]) * size for number in range(4)]
    async with Tus(patient) as tus:
        url = await tus.upload(size)
        patches = (tus.patch(url, 0, racer) for racer in racers)
        ends = await asyncio.gather(*patches, return_exceptions=True)
        assert all(isinstance(end, httpx.Response | httpx.TransportError) for end in ends)
        statuses = [end.status_code if isinstance(end, httpx.Response) else 0 for end in ends]
        assert set(statuses) <= {204, 409, 0}  # A request that was ended gets no response.
        assert statuses.count(204) <= 1
        if 204 not in statuses:
            offset = await tus.offset(url)
            assert (await tus.patch(url, offset, b"Z" * (size - offset))).status_code == 204

    stored = await bytes_of(patient, id_of(url))
    assert len(stored) == size
    # The bytes are those of one client, and all of its bytes if they were acknowledged.
    won = stored.rstrip(b"Z")
    assert sha256(won) in {sha256(racer[: len(won)]) for racer in racers}
    if 204 in statuses:
        assert sha256(stored) == sha256(racers[statuses.index(204)])


@pytest.mark.spec("tus-C27")
@pytest.mark.parametrize("round_", range(2 * SOAK))
async def test_a_file_arrives_whole_however_often_its_connection_breaks(
    patient: Service, round_: int
) -> None:
    choice = random.Random(round_)
    data = choice.randbytes(4 << 20)
    async with Tus(patient) as tus:
        url = await tus.upload(len(data))
        offset = furthest = 0
        for _ in range(12):
            stop = choice.randrange(offset, len(data))
            furthest = max(furthest, stop)
            async with patient.raw_connection() as peer:
                head = patch_head(url, offset, f"Content-Length: {len(data) - offset}")
                await peer.send(head + data[offset:stop])
                choice.choice([peer.reset, peer.close, lambda: None])()
                # Before, during or after the chunk, because HEAD has another connection.
                told = await tus.offset(url)
            assert offset <= told <= furthest
            offset = told
        # A chunk on a connection that is accepted later may still be appended first.
        async with asyncio.timeout(PATIENCE):
            while (await tus.patch(url, offset, data[offset:])).status_code != 204:
                offset = await tus.offset(url)
    assert sha256(await bytes_of(patient, id_of(url))) == sha256(data)


@pytest.mark.spec("tus-C24", "tus-C27")
@pytest.mark.parametrize("round_", range(SOAK))
@pytest.mark.slow
async def test_after_a_sudden_death_an_upload_goes_on(tmp_path: Path, round_: int) -> None:
    choice = random.Random(round_)
    data = choice.randbytes(4 << 20)
    sure = choice.randrange(len(data) // 2)
    async with ServiceProcess(tmp_path) as process, process.raw_connection() as peer:
        async with Tus(process) as tus:
            path = "/uploads/" + id_of(await tus.upload(len(data), {}, data[:sure]))
        await begin_patch(peer, path, sure, f"Content-Length: {len(data) - sure}")
        await peer.send(data[sure : choice.randrange(sure, len(data))])
        process.kill()

    async with Service(storage={"url": f"file:{tmp_path / 'data'}"}) as service:
        async with Tus(service) as tus:
            offset = await tus.offset(path)
            assert sure <= offset < len(data)  # Acknowledged bytes are kept.
            assert (await tus.patch(path, offset, data[offset:])).status_code == 204
        assert sha256(await bytes_of(service, id_of(path))) == sha256(data)


@pytest.mark.spec("tus-C21", "tus-C24")
@pytest.mark.slow
async def test_after_a_sudden_death_nothing_lies_beyond_the_length(tmp_path: Path) -> None:
    data = random.randbytes(3 << 20)
    excess = b"X" * (2 << 20)
    async with ServiceProcess(tmp_path) as process, process.raw_connection() as peer:
        async with Tus(process) as tus:
            path = "/uploads/" + id_of(await tus.upload(len(data), {}, data[:4]))
        await peer.send(patch_head(path, 4, "Transfer-Encoding: chunked"))
        body = data[4:] + excess
        await peer.send(f"{len(body) + 1:x}\r\n".encode() + body)
        process.kill()

    async with Service(storage={"url": f"file:{tmp_path / 'data'}"}) as service:
        async with Tus(service) as tus:
            offset = await tus.offset(path)
            assert 4 <= offset <= len(data)
            assert (await tus.patch(path, offset, data[offset:])).status_code == 204
            assert (await tus.record(path))["size"] == len(data)
        assert sha256(await bytes_of(service, id_of(path))) == sha256(data)


@pytest.mark.spec("tus-C27")
@pytest.mark.slow
async def test_a_drain_keeps_what_came(tmp_path: Path) -> None:
    limits = {"SERVER__DRAIN_TIMEOUT": "300 ms"}
    async with ServiceProcess(tmp_path, **limits) as process, process.raw_connection() as peer:
        async with Tus(process) as tus:
            path = "/uploads/" + id_of(await tus.upload(6))
        await begin_patch(peer, path, 0, "Content-Length: 6")
        await peer.send(b"abc")
        await settle(process)
        process.terminate()
        assert b" 503 " in await peer.read_head()
        assert await process.exit_code() == 0

    async with (
        Service(storage={"url": f"file:{tmp_path / 'data'}"}) as service,
        Tus(service) as tus,
    ):
        assert await tus.offset(path) == 3


@pytest.mark.fault("F5")
@pytest.mark.parametrize("space", [" ", "\t"])
async def test_white_space_behind_a_value_changes_nothing(service: Service, space: str) -> None:
    lines = ["Host: test", f"Tus-Resumable: 1.0.0{space}", f"Upload-Length: 5{space}"]
    async with service.raw_connection() as peer:
        await peer.send("\r\n".join(["POST /uploads HTTP/1.1", *lines, "", ""]).encode())
        assert (await peer.read_head()).startswith(b"HTTP/1.1 201 ")
