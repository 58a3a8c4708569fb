"""The IETF draft "Resumable Uploads for HTTP": clients that leave, stall, compete and reconnect."""

import asyncio
import random
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from ..peer import PATIENCE, Peer
from ..service import SOAK, Service, ServiceProcess
from ..storage.stored import bytes_of, files
from ..upload.uploads import sha256
from .draft import (
    ROUTE,
    append,
    bare,
    bare_append,
    begin,
    offset_of,
    send_part,
    unfinished,
)
from .tus import make_older, settle, was_cut

#: So long that no body times out, except where a test interrupts it.
PATIENT = {"idle_timeout": PATIENCE}


@pytest.mark.spec("draft-U1")
@pytest.mark.slow
async def test_acknowledged_bytes_survive_sudden_death(tmp_path: Path) -> None:
    data = random.randbytes(2 << 20)
    async with ServiceProcess(tmp_path) as process, process.client() as client:
        url = urlsplit(await begin(client, data[:1000])).path
        acknowledged = await append(client, url, 1000, data[1000 : 1 << 20])
        process.kill()
    assert acknowledged.headers["upload-offset"] == str(1 << 20)

    async with Service(storage={"url": f"file:{tmp_path / 'data'}"}) as service:
        async with service.client() as client:
            assert await offset_of(client, url) == 1 << 20
            last = await append(client, url, 1 << 20, data[1 << 20 :], complete=True)
        assert sha256(await bytes_of(service, last.json()["id"])) == sha256(data)


@pytest.mark.local
@pytest.mark.spec("draft-U1")
async def test_an_upload_whose_bytes_are_lost_is_gone_and_not_empty(
    serve: Any, tmp_path: Path
) -> None:
    first: Service = await serve()
    async with first.client() as client:
        url = urlsplit(await begin(client, b"x" * 1000)).path
    [part] = (tmp_path / "data" / "uploads").glob("*.part")
    part.unlink()

    second: Service = await serve()
    async with second.client() as client:
        answers = [await client.head(url), await append(client, url, 0, b"y")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert not any("upload-offset" in answer.headers for answer in answers)


@pytest.mark.spec("draft-A2", "draft-R13")
async def test_a_client_that_leaves_goes_on_where_it_was(service: Service) -> None:
    data = random.randbytes(3 << 20)
    name = {"Content-Disposition": 'inline; filename="a.png"'}
    async with service.client() as client:
        url = await begin(client, data[:1000], {**name, "Content-Type": "image/png"})
        async with service.raw_connection() as peer:
            await peer.send(bare_append(url, 1000, (3 << 20) - 1000, "Upload-Complete: ?1"))
            await peer.send(data[1000 : 2 << 20])
            peer.close()
        assert await service.outcome_of(f"PATCH {ROUTE}") == "client_abort"

        assert await offset_of(client, url) == 2 << 20
        assert await files(service) == []
        last = await append(client, url, 2 << 20, data[2 << 20 :], complete=True)
    record = last.json()
    assert (record["filename"], record["content_type"]) == ("a.png", "image/png")
    assert sha256(await bytes_of(service, record["id"])) == sha256(data)


@pytest.mark.spec("draft-A2", "draft-U1")
async def test_a_client_that_vanishes_loses_nothing_that_was_counted(service: Service) -> None:
    data = random.randbytes(5 * SOAK * 200_000)
    offset = 0
    async with service.client() as client:
        url = await begin(client)
        for _ in range(5 * SOAK):
            async with service.raw_connection() as peer:
                start = bare_append(url, offset, len(data) - offset, "Upload-Complete: ?0")
                await send_part(peer, start, data[offset : offset + 200_000])
                peer.reset()
            reached = await offset_of(client, url)
            assert offset <= reached <= offset + 200_000
            offset = reached
        last = await append(client, url, offset, data[offset:], complete=True)
    assert sha256(await bytes_of(service, last.json()["id"])) == sha256(data)


@pytest.mark.spec("draft-R11")
async def test_an_interrupted_creation_without_an_address_leaves_nothing(
    service: Service, tmp_path: Path
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(
            bare("POST", f"{service.url}/files", 1000, "Upload-Complete: ?1") + b"x" * 400
        )
        peer.reset()

    assert await service.outcome_of("POST /files") == "client_abort"
    assert await files(service) == []
    assert unfinished(tmp_path) == set()


@pytest.mark.fault("F8")
@pytest.mark.spec("draft-S6")
async def test_a_part_that_stalls_ends_its_connection_and_is_kept(service: Service) -> None:
    async with service.client() as client, service.raw_connection() as peer:
        url = await begin(client)
        await peer.send(bare_append(url, 0, 1000, "Upload-Complete: ?0") + b"abc")

        assert await was_cut(peer)
        assert await offset_of(client, url) == 3
    assert await service.outcome_of(f"PATCH {ROUTE}") == "timeout"


@pytest.mark.fault("F12")
@pytest.mark.spec("draft-S6")
async def test_an_upload_that_nobody_goes_on_with_is_gone_after_its_time(
    service: Service, tmp_path: Path
) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        make_older(service, tmp_path, url, 86_401)

        answers = [
            await client.head(url),
            await client.get(url),
            await append(client, url, 3, b"def", complete=True),
            await client.delete(url),
        ]
    assert [answer.status_code for answer in answers] == [410] * 4
    assert not any("upload-offset" in answer.headers for answer in answers)
    assert await files(service) == []


async def stall(peer: Peer, url: str, data: bytes, *, complete: bool = True) -> None:
    """Begin an append that does not end."""
    flag = f"Upload-Complete: {'?1' if complete else '?0'}"
    await send_part(peer, bare_append(url, 0, len(data) * 2, flag), data)


@pytest.mark.spec("draft-X2", "draft-X3")
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_asking_for_the_offset_cuts_a_stalled_append(serve: Any, method: str) -> None:
    service: Service = await serve(streaming=PATIENT)
    async with service.client() as client, service.raw_connection() as peer:
        url = await begin(client)
        await stall(peer, url, b"abc")
        await settle(service)
        asked = await client.request(method, url)

        assert asked.headers["upload-offset"] == "3"
        assert await was_cut(peer)
        last = await append(client, url, 3, b"def", complete=True)
    assert await bytes_of(service, last.json()["id"]) == b"abcdef"


@pytest.mark.spec("draft-X3")
async def test_the_newest_append_wins(serve: Any) -> None:
    service: Service = await serve(streaming=PATIENT)
    async with service.client() as client, service.raw_connection() as peer:
        url = await begin(client)
        await stall(peer, url, b"abc")
        await settle(service)
        last = await append(client, url, 3, b"def", complete=True)

        assert last.status_code == 201
        assert await was_cut(peer)
    assert await bytes_of(service, last.json()["id"]) == b"abcdef"


@pytest.mark.spec("draft-D2")
async def test_cancelling_cuts_an_append_under_way(serve: Any, tmp_path: Path) -> None:
    service: Service = await serve(streaming=PATIENT)
    async with service.client() as client, service.raw_connection() as peer:
        url = await begin(client)
        await stall(peer, url, b"abc")
        await settle(service)

        assert (await client.delete(url)).status_code == 204
        assert await was_cut(peer)
        assert (await client.head(url)).status_code == 404
    assert await files(service) == []
    assert unfinished(tmp_path) == set()


@pytest.mark.spec("draft-X3", "draft-S6")
async def test_a_stalled_append_is_cut_also_when_it_has_the_last_slot(serve: Any) -> None:
    service: Service = await serve(streaming={**PATIENT, "max_streams": 1})
    async with service.client() as client, service.raw_connection() as peer:
        url = await begin(client)
        await stall(peer, url, b"abc")
        await settle(service)

        assert await offset_of(client, url) == 3
        assert await was_cut(peer)
        assert (await append(client, url, 3, b"def")).status_code == 204


@pytest.mark.spec("draft-X1", "draft-X2")
async def test_clients_that_fight_over_an_upload_never_mix_their_bytes(serve: Any) -> None:
    service: Service = await serve(streaming=PATIENT)
    data = random.randbytes(1 << 20)

    async def fight(client: httpx.AsyncClient, url: str) -> None:
        for _ in range(5 * SOAK):
            offset = await offset_of(client, url)
            try:
                answer = await append(client, url, offset, data[offset : offset + 40_000])
            except httpx.TransportError:
                continue  # Ended by a newer request.
            assert answer.status_code in (204, 409)

    async with service.client() as client:
        url = await begin(client)
        await asyncio.gather(*(fight(client, url) for _ in range(5)))
        offset = await offset_of(client, url)
        last = await append(client, url, offset, data[offset:], complete=True)
    assert sha256(await bytes_of(service, last.json()["id"])) == sha256(data)
