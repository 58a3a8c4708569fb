"""Stalled uploads: their bytes are kept, and the connection is closed without a response.

Clients of both protocols continue after a broken connection and a 5xx, but give up after a 408.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.storage import Callbacks, FileRecord
from {{cookiecutter.package_name}}.engine.upload.resumable import sessions

from ..service import Service, ServiceProcess
from ..storage.stored import bytes_of, files
from .draft import append, bare, bare_append, offset_of, read_heads
from .tus import CHUNK, Tus, begin_patch, id_of, patch_head, settle, unfinished, was_cut

PATCH = "PATCH /uploads/{upload_id}"
INTEROP = "Upload-Draft-Interop-Version: 6"
#: No single wait is too long, but the sum of them is.
TRICKLE = {"idle_timeout": 0.4, "min_rate": "1 MiB"}
#: Bytes that are sent without waiting for the service, whose own delays give a client more time.
LONG = 100_000


@pytest.mark.fault("F8")
@pytest.mark.spec("tus-C26", "tus-C27")
@pytest.mark.parametrize(
    ("version", "framing", "sent"),
    [
        (b"1.1", "Content-Length: 6", b"abc"),
        (b"1.1", "Transfer-Encoding: chunked", b"3\r\nabc\r\n"),
        (b"1.0", "Content-Length: 6", b"abc"),
    ],
)
@pytest.mark.slow
async def test_a_chunk_that_stalls_ends_its_connection_without_a_response(
    service: Service, version: bytes, framing: str, sent: bytes
) -> None:
    async with Tus(service) as tus, service.raw_connection() as peer:
        url = await tus.upload(6)
        await peer.send(patch_head(url, 0, framing).replace(b"HTTP/1.1", b"HTTP/" + version) + sent)

        assert await was_cut(peer)
        assert await service.outcome_of(PATCH) == "timeout"
        assert await tus.offset(url) == 3
        assert (await tus.patch(url, 3, b"def")).status_code == 204
    assert await bytes_of(service, id_of(url)) == b"abcdef"


@pytest.mark.fault("F8")
@pytest.mark.spec("tus-C26")
async def test_a_chunk_that_trickles_ends_its_connection_likewise(serve: Any) -> None:
    service: Service = await serve(streaming=TRICKLE)
    async with Tus(service) as tus, service.raw_connection() as peer:
        url = await tus.upload(LONG)
        await begin_patch(peer, url, 0, f"Content-Length: {LONG}")
        with suppress(ConnectionError):
            for _ in range(LONG):
                await peer.send(b"x")
                await settle(service)

        assert await was_cut(peer)
        assert await service.outcome_of(PATCH) == "timeout"
        assert 0 < await tus.offset(url) < LONG


@pytest.mark.fault("F8")
@pytest.mark.spec("tus-X2", "tus-X5")
async def test_a_chunk_that_stalls_before_it_can_be_verified_counts_for_nothing(
    service: Service,
) -> None:
    async with Tus(service) as tus, service.raw_connection() as peer:
        url = await tus.upload(6)
        fields = ("Content-Length: 6", "Upload-Checksum: crc32 AAAAAA==")
        await peer.send(patch_head(url, 0, *fields) + b"abc")

        assert await was_cut(peer)
        assert await tus.offset(url) == 0


@pytest.mark.fault("F8")
@pytest.mark.spec("tus-C26", "tus-W4")
async def test_a_creation_that_stalls_with_its_bytes_is_begun_anew(
    service: Service, tmp_path: Path
) -> None:
    fields = ("Tus-Resumable: 1.0.0", "Upload-Length: 6", f"Content-Type: {CHUNK}")
    head = bare("POST", f"{service.url}/uploads", 6, *fields)
    async with service.raw_connection() as peer:
        await peer.send(head + b"abc")

        assert await was_cut(peer)
    assert await service.outcome_of("POST /uploads") == "timeout"
    assert unfinished(tmp_path) == []  # The client does not know its URL.


@pytest.mark.fault("F8")
@pytest.mark.spec("draft-R11", "draft-S6")
@pytest.mark.parametrize("path", ["/files", "/uploads"])
async def test_a_creation_whose_address_is_known_ends_its_connection_and_is_kept(
    serve: Any, path: str
) -> None:
    service: Service = await serve(upload={"interim_responses": True})
    start = bare("POST", service.url + path, 6, "Upload-Complete: ?1", INTEROP)
    async with service.client() as client, service.raw_connection() as peer:
        await peer.send(start + b"abc")
        await peer.read_until(b"ocation: ")
        url = (await peer.read_until(b"\r\n")).decode().strip()
        await peer.read_head()

        assert await was_cut(peer)
        assert await service.outcome_of(f"POST {path}") == "timeout"
        assert await offset_of(client, url) == 3
        last = await append(client, url, 3, b"def", complete=True)
    assert await bytes_of(service, last.json()["id"]) == b"abcdef"


@pytest.mark.parametrize("fields", [[], ["Upload-Complete: ?1"]])
async def test_a_client_that_knows_no_address_is_told_that_it_was_too_slow(
    service: Service, tmp_path: Path, fields: list[str]
) -> None:
    async with service.raw_connection() as peer:
        await peer.send(bare("POST", f"{service.url}/files", 6, *fields) + b"abc")
        [answer] = await read_heads(peer)

    assert answer.status == 408
    assert await service.outcome_of("POST /files") == "timeout"
    assert await files(service) == []
    assert unfinished(tmp_path) == []


@pytest.mark.fault("F8")
@pytest.mark.parametrize("protocol", ["tus", "draft"])
async def test_a_server_that_always_responds_tells_clients_to_come_back(
    sections: dict[str, dict[str, Any]], protocol: str
) -> None:
    async with Service(http="h11", **sections) as service, Tus(service) as tus:
        url = await tus.upload(6)
        start = {
            "tus": patch_head(url, 0, "Content-Length: 6"),
            "draft": bare_append(url, 0, 6, "Upload-Complete: ?1"),
        }
        async with service.raw_connection() as peer:
            await peer.send(start[protocol] + b"abc")
            [answer] = await read_heads(peer)

        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert int(answer.headers["retry-after"]) >= 1
        assert await service.outcome_of(PATCH) == "timeout"
        assert await tus.offset(url) == 3


@pytest.mark.fault("F8")
@pytest.mark.slow
async def test_a_stall_is_one_line_of_the_log_and_no_error(tmp_path: Path) -> None:
    settings = {"STREAMING__IDLE_TIMEOUT": "300 ms", "LOG__FORMAT": "json"}
    async with ServiceProcess(tmp_path, **settings) as process, Tus(process) as tus:
        url = await tus.upload(6)
        async with process.raw_connection() as peer:
            await begin_patch(peer, url, 0, "Content-Length: 6")
            await peer.send(b"abc")
            assert await was_cut(peer)
        assert await tus.offset(url) == 3
        process.kill()
        await process.exit_code()

    patches = [line for line in process.log if '"PATCH"' in line]
    assert ['"outcome":"timeout"' in line for line in patches] == [True]
    assert not [line for line in process.log if '"level":"error"' in line or "Traceback" in line]


async def test_an_upload_that_is_cut_ends_as_rejected(serve: Any) -> None:
    service: Service = await serve(streaming={"idle_timeout": 60})
    async with Tus(service) as tus, service.raw_connection() as peer:
        url = await tus.upload(6)
        await begin_patch(peer, url, 0, "Content-Length: 6")

        assert await tus.offset(url) == 0
        assert await was_cut(peer)
        assert await service.outcome_of(PATCH) == "rejected"


@pytest.mark.fault("F9")
@pytest.mark.parametrize(("protocol", "status"), [("tus", 423), ("draft", 503)])
async def test_an_upload_that_stays_busy_is_refused_so_that_its_clients_come_back(
    service: Service, monkeypatch: pytest.MonkeyPatch, protocol: str, status: int
) -> None:
    """The inspection of a file may take longer than requests wait."""
    monkeypatch.setattr(sessions, "PATIENCE", 0.1)
    headers = {"Tus-Resumable": "1.0.0"} if protocol == "tus" else {}
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def inspect(record: FileRecord, chunks: Any) -> None:
        reached.set()
        await go_on.wait()

    service.app.state.storage.callbacks = [Callbacks(inspect=inspect)]
    async with Tus(service) as tus, service.client() as client:
        url = await tus.upload(3)
        last = asyncio.create_task(tus.patch(url, 0, b"abc"))
        await service.in_server(reached.wait())
        answer = await client.head(url, headers=headers)
        await service.call(go_on.set)
        assert (await last).status_code == 204

    assert (answer.status_code, answer.headers.get("connection")) == (status, "close")
    assert int(answer.headers["retry-after"]) >= 1
