"""The IETF draft "Resumable Uploads for HTTP": 104 responses, digests, and invalid headers."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.storage import Callbacks, FileRecord

from ..peer import PATIENCE
from ..service import Service
from ..storage.stored import bytes_of, files
from ..upload.uploads import digest, sha256
from .draft import (
    Head,
    append,
    bare,
    bare_append,
    begin,
    create,
    offset_of,
    read_heads,
    unfinished,
)
from .tus import in_pieces, settle, was_cut

INTEROP = "Upload-Draft-Interop-Version"


@pytest.fixture
async def telling(serve: Any) -> Service:
    """The service with interim responses enabled."""
    started: Service = await serve(upload={"interim_responses": True})
    return started


async def heads_of(service: Service, request: bytes) -> list[Head]:
    """Send a request with its whole body; return status and headers of all responses."""
    async with service.raw_connection() as peer:
        await peer.send(request)
        return await read_heads(peer)


@pytest.mark.spec("draft-R2", "draft-R3", "draft-R4", "draft-R9", "draft-I3")
@pytest.mark.parametrize(
    ("path", "version"), [("/files", "6"), ("/uploads", "8"), ("/uploads", "8;a=b")]
)
async def test_a_creation_is_told_its_address_before_its_body_is_read(
    telling: Service, path: str, version: str
) -> None:
    request = bare("POST", telling.url + path, 3, "Upload-Complete: ?0", f"{INTEROP}: {version}")
    async with telling.raw_connection() as peer, telling.client() as client:
        await peer.send(request)
        early = await peer.read_head()
        assert early.startswith(b"HTTP/1.1 104 Upload Resumption Supported\r\n")
        told = dict(line.split(b": ", 1) for line in early.lower().strip().split(b"\r\n")[1:])

        await peer.send(b"abc")
        *_, final = await read_heads(peer)
        assert final.headers["location"].startswith(f"{telling.url}/uploads/")
        assert told[b"location"].decode() == final.headers["location"]
        assert told[b"upload-limit"].startswith(b"max-size=")
        assert told[INTEROP.lower().encode()].decode() == version[0]
        assert (final.status, final.headers["upload-offset"]) == (201, "3")
        assert await offset_of(client, final.headers["location"]) == 3


@pytest.mark.spec("draft-I2")
async def test_no_other_version_of_the_draft_gets_an_interim_response(telling: Service) -> None:
    others = ["", "0", "3", "5", "11", "68", "-8", "8.0", '"8"', "?1", "6, 8", "8;", "8;A"]
    for interop in [[], *([f"{INTEROP}: {version}"] for version in others)]:
        start = bare("POST", f"{telling.url}/uploads", 3, "Upload-Complete: ?1", *interop)
        heads = await heads_of(telling, start + b"abc")
        assert [head.status for head in heads] == [201], interop


@pytest.mark.spec("draft-I2")
async def test_interim_responses_are_for_http_1_1_and_only_when_switched_on(
    serve: Any, telling: Service
) -> None:
    fields = ("Upload-Complete: ?1", f"{INTEROP}: 8")
    old = bare("POST", f"{telling.url}/uploads", 3, *fields, version="1.0") + b"abc"
    silent: Service = await serve()

    assert [head.status for head in await heads_of(telling, old)] == [201]
    new = bare("POST", f"{telling.url}/uploads", 3, *fields) + b"abc"
    assert [head.status for head in await heads_of(silent, new)] == [201]
    assert [head.status for head in await heads_of(telling, new)] == [104, 201]


@pytest.mark.spec("draft-I2")
async def test_what_creates_no_upload_has_no_interim_response(telling: Service) -> None:
    complete = "Upload-Complete: ?1"
    cases = [(["Upload-Complete: 1"], 201), ([], 201), ([complete, "Upload-Length: 4"], 400)]
    for fields, status in cases:
        start = bare("POST", f"{telling.url}/files", 3, *fields, f"{INTEROP}: 8")
        heads = await heads_of(telling, start + b"abc")
        assert [head.status for head in heads] == [status], fields


@pytest.mark.spec("draft-I1")
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_client_that_expects_100_gets_it_besides_104(telling: Service, method: str) -> None:
    expects = ("Upload-Complete: ?1", f"{INTEROP}: 8", "Expect: 100-continue")
    async with telling.raw_connection() as peer, telling.client() as client:
        if method == "POST":
            await peer.send(bare("POST", f"{telling.url}/files", 3, *expects))
        else:
            await peer.send(bare_append(await begin(client), 0, 3, *expects))
        await peer.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.send(b"abc")
        *_, final = await read_heads(peer)

    assert (final.status, final.headers["upload-complete"]) == (201, "?1")


@pytest.mark.spec("draft-R2", "draft-R7", "draft-R11", "draft-R13")
@pytest.mark.parametrize(("path", "abruptly"), [("/files", False), ("/uploads", True)])
async def test_an_interrupted_creation_is_resumed_at_the_address_that_104_told(
    telling: Service, path: str, abruptly: bool
) -> None:
    data = random.randbytes(100_000)
    told = ("Upload-Complete: ?1", 'Content-Disposition: inline; filename="a.png"')
    async with telling.raw_connection() as peer:
        await peer.send(bare("POST", telling.url + path, len(data), *told, f"{INTEROP}: 8"))
        await peer.read_until(b"ocation: ")
        url = (await peer.read_until(b"\r\n")).decode().strip()
        await peer.send(data[:40_000])
        if abruptly:
            peer.reset()
        else:
            peer.close()
    assert await telling.outcome_of(f"POST {path}") == "client_abort"

    async with telling.client() as client:
        head = await client.head(url)
        assert head.headers["upload-complete"] == "?0"
        assert head.headers["upload-length"] == "100000"
        offset = int(head.headers["upload-offset"])
        assert offset <= 40_000 if abruptly else offset == 40_000
        assert await files(telling) == []
        last = await append(client, url, offset, data[offset:], complete=True)
    record = last.json()
    assert (record["filename"], record["content_type"]) == ("a.png", "image/png")
    assert sha256(await bytes_of(telling, record["id"])) == sha256(data)


@pytest.mark.spec("draft-X3", "draft-R11")
async def test_asking_for_the_offset_cuts_a_stalled_creation(serve: Any) -> None:
    service: Service = await serve(
        upload={"interim_responses": True}, streaming={"idle_timeout": PATIENCE}
    )
    async with service.client() as client, service.raw_connection() as peer:
        start = bare("POST", f"{service.url}/files", 6, "Upload-Complete: ?1", f"{INTEROP}: 8")
        await peer.send(start + b"abc")
        await peer.read_until(b"ocation: ")
        url = (await peer.read_until(b"\r\n")).decode().strip()
        await settle(service)
        assert await offset_of(client, url) == 3

        await peer.read_head()
        assert await was_cut(peer)
        last = await append(client, url, 3, b"def", complete=True)
    assert await bytes_of(service, last.json()["id"]) == b"abcdef"


@pytest.mark.spec("draft-A10", "draft-R8")
@pytest.mark.parametrize("creates", [False, True])
async def test_a_long_body_is_told_how_far_it_is(telling: Service, creates: bool) -> None:
    size = 32 << 20
    fields = (f"{INTEROP}: 8", "Upload-Complete: ?1")
    async with telling.client() as client, telling.raw_connection() as peer:
        if creates:
            await peer.send(bare("POST", f"{telling.url}/files", size, *fields))
        else:
            await peer.send(bare_append(await begin(client), 0, size, *fields))
        sending = asyncio.create_task(peer.send(bytes(size)))
        *interim, final = await read_heads(peer)
        await sending

    assert {head.status for head in interim} == {104}
    assert all(head.headers[INTEROP.lower()] == "8" for head in interim)
    assert creates == ("location" in interim[0].headers)
    assert not any("location" in head.headers for head in interim[1:])
    offsets = [int(head.headers["upload-offset"]) for head in interim[creates:]]
    assert offsets == sorted(set(offsets))
    assert 0 < offsets[-1] <= size
    assert (final.status, final.headers["upload-complete"]) == (201, "?1")


@pytest.mark.spec("draft-G1")
@pytest.mark.parametrize("told_at", ["creation", "completion"])
@pytest.mark.parametrize("right", [True, False])
async def test_the_digest_of_the_whole_is_verified_when_the_last_byte_is_there(
    service: Service, tmp_path: Path, told_at: str, right: bool
) -> None:
    data = random.randbytes(3 << 20)
    field = {"Repr-Digest": digest("sha-256", data if right else data[1:])}
    first, last = (field, None) if told_at == "creation" else (None, field)
    async with service.client() as client:
        url = await begin(client, data[: 1 << 20], first)
        await append(client, url, 1 << 20, data[1 << 20 : 2 << 20])
        response = await append(client, url, 2 << 20, data[2 << 20 :], last, complete=True)
        state = await client.head(url)

    assert (response.status_code, response.headers["upload-complete"]) == (
        (201, "?1") if right else (400, "?1")
    )
    assert state.status_code == (204 if right else 404)
    assert len(await files(service)) == (1 if right else 0)
    assert right or unfinished(tmp_path) == set()


@pytest.mark.spec("draft-G2")
async def test_the_digest_that_was_asked_for_comes_with_the_last_answer(service: Service) -> None:
    data = random.randbytes(100_000)
    wanted = {"Want-Repr-Digest": "sha-256=3, sha-512=8"}
    async with service.client() as client:
        at_once = await create(client, data, wanted, complete=True)
        url = await begin(client, data[:1000], wanted)
        later = await append(client, url, 1000, data[1000:], complete=True)

    assert at_once.headers["repr-digest"] == digest("sha-512", data)
    assert later.headers["repr-digest"] == digest("sha-512", data)
    assert later.json()["digest"] == {"sha-512": digest("sha-512", data)[9:-1]}


@pytest.mark.spec("draft-G3")
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_part_that_does_not_match_its_digest_is_not_appended(
    service: Service, chunked: bool
) -> None:
    data = random.randbytes(5 << 20)
    part = data[1 << 20 : 4 << 20]
    field = {"Content-Digest": digest("sha-512", part)}
    async with service.client() as client:
        url = await begin(client, data[: 1 << 20])
        forged = part[:-1] + bytes([part[-1] ^ 1])
        wrong: Any = in_pieces(forged, 1 << 16) if chunked else forged
        refused = await append(client, url, 1 << 20, wrong, field)
        malformed = await append(client, url, 1 << 20, part, {"Content-Digest": "sha-256=1"})
        assert [refused.status_code, malformed.status_code] == [400, 400]
        assert await offset_of(client, url) == 1 << 20

        assert (await append(client, url, 1 << 20, part, field)).status_code == 204
        rest = data[4 << 20 :]
        field = {"Content-Digest": digest("sha-256", rest)}
        last = await append(client, url, 4 << 20, rest, field, complete=True)
    assert sha256(await bytes_of(service, last.json()["id"])) == sha256(data)


@pytest.mark.spec("draft-G3")
async def test_a_creation_that_does_not_match_its_digest_creates_nothing(
    service: Service, tmp_path: Path
) -> None:
    field = {"Content-Digest": digest("sha-256", b"other")}
    async with service.client() as client:
        for complete in (False, True):
            response = await create(client, b"abc", field, complete=complete)
            assert response.status_code == 400, complete
            assert "location" not in response.headers
    assert await files(service) == []
    assert unfinished(tmp_path) == set()


@pytest.mark.spec("draft-S5")
async def test_a_quota_holds_for_uploads_whose_length_nobody_knew(serve: Any) -> None:
    service: Service = await serve(storage={"quota": 1000})
    async with service.client() as client:
        urls = [await begin(client) for _ in range(2)]
        answers = [await append(client, url, 0, b"x" * 600, complete=True) for url in urls]

    assert [answer.status_code for answer in answers] == [201, 413]
    assert [record.size for record in await files(service)] == [600]


@pytest.mark.spec("draft-S5", "draft-S7")
async def test_a_file_is_inspected_as_a_whole_however_it_was_cut(service: Service) -> None:
    seen = []

    async def inspect(_: FileRecord, chunks: AsyncIterator[bytes]) -> None:
        seen.append(b"".join([chunk async for chunk in chunks]))
        if b"virus" in seen[-1]:
            raise Problem(422, "This looks dangerous.")

    service.app.state.storage.callbacks = [Callbacks(inspect=inspect)]
    async with service.client() as client:
        url = await begin(client, b"a vi")
        await append(client, url, 4, b"ru")
        response = await append(client, url, 6, b"s", complete=True)

        assert (response.status_code, response.headers["upload-complete"]) == (422, "?1")
        assert (await client.head(url)).status_code == 404
    assert seen == [b"a virus"]
    assert await files(service) == []
