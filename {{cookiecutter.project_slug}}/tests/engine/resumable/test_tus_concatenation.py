"""tus 1.0.0: Concatenation of finished and unfinished parts."""

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.storage import writer

from .. import stores
from ..peer import PATIENCE
from ..service import Service
from ..storage.stored import bytes_of, files
from ..upload.uploads import sha256
from .tus import Tus, begin_patch, id_of, metadata, settle

PARTIAL = {"Upload-Concat": "partial"}
#: Bytes of the fields that are returned, and of all headers, which nginx limits.
RETURNED, ALL = 12 << 10, 16 << 10


async def partials(tus: Tus, *pieces: bytes) -> list[str]:
    """Upload parts, and return their URLs."""
    return [await tus.upload(len(piece), PARTIAL, piece) for piece in pieces]


async def concatenate(tus: Tus, *urls: str, **fields: str) -> httpx.Response:
    return await tus.create({"Upload-Concat": "final;" + " ".join(urls), **fields})


@pytest.mark.spec("tus-N2", "tus-N4", "tus-N5", "tus-N12")
async def test_parts_uploaded_at_once_become_one_file_in_the_order_asked_for(
    service: Service,
) -> None:
    pieces = [random.randbytes(size) for size in (1 << 20, 1, 300_000, (2 << 20) + 5)]
    async with Tus(service) as tus:
        urls = await asyncio.gather(*(tus.upload(len(piece), PARTIAL) for piece in pieces))
        await asyncio.gather(*(tus.patch(url, 0, p) for url, p in zip(urls, pieces, strict=True)))
        response = await concatenate(tus, *(urls[number] for number in (2, 0, 3, 1)))
        url = response.headers["location"]
        headed = await tus.head(url)
        record = await tus.record(url)

    whole = b"".join(pieces[number] for number in (2, 0, 3, 1))
    assert response.status_code == 201
    assert record["size"] == len(whole)
    assert headed.headers["upload-offset"] == headed.headers["upload-length"] == str(len(whole))
    assert record["url"] == service.url + headed.headers["content-location"]
    assert sha256(await bytes_of(service, id_of(url))) == sha256(whole)


@pytest.mark.spec("tus-N13", "tus-N15")
async def test_parts_and_wholes_say_what_they_are(service: Service) -> None:
    async with Tus(service) as tus:
        part = await tus.upload(6, PARTIAL, b"abc")
        other = (await partials(tus, b"x"))[0]
        asked = f"final;{part}  /uploads/{id_of(other)}".replace("  ", " ")
        final = (await tus.create({"Upload-Concat": asked})).headers["location"]
        headed, whole = await tus.head(part), await tus.head(final)

    assert (headed.headers["upload-concat"], headed.headers["upload-offset"]) == ("partial", "3")
    assert whole.headers["upload-concat"] == asked


@pytest.mark.spec("tus-N16")
@pytest.mark.parametrize("form", ["absolute", "path"])
async def test_parts_are_named_by_address_or_by_path(serve: Any, form: str) -> None:
    service: Service = await serve(server={"public_url": "https://files.example.com"})
    async with Tus(service) as tus:
        ids = [
            id_of((await tus.create({"Upload-Length": "0", **PARTIAL})).headers["location"]),
            id_of((await tus.create({"Upload-Length": "0", **PARTIAL})).headers["location"]),
        ]
        base = "https://files.example.com" if form == "absolute" else ""
        response = await concatenate(tus, *(f"{base}/uploads/{part}" for part in ids))

        assert response.status_code == 201
        record = await tus.record(response.headers["location"])
    assert record["size"] == 0


@pytest.mark.spec("tus-N3")
async def test_a_part_is_no_file(service: Service) -> None:
    async with Tus(service) as tus:
        url = (await partials(tus, b"abc"))[0]
        headed = await tus.head(url)

        assert (headed.headers["upload-offset"], headed.headers["upload-length"]) == ("3", "3")
        assert "content-location" not in headed.headers
        assert (await tus.http.get(f"/files/{id_of(url)}/record")).status_code == 404
        assert (await tus.http.delete(f"/files/{id_of(url)}")).status_code == 404
        await concatenate(tus, url)
    assert [record.size for record in await files(service)] == [3]


@pytest.mark.spec("tus-N8")
async def test_a_whole_has_the_metadata_of_its_own_creation_only(service: Service) -> None:
    fields = PARTIAL | {"Upload-Metadata": metadata(filename="part.txt", place="part")}
    async with Tus(service) as tus:
        part = await tus.upload(3, fields, b"abc")
        named = {"Upload-Metadata": metadata(filename="whole.txt")}
        bare = (await concatenate(tus, part)).headers["location"]
        own = (await concatenate(tus, part, **named)).headers["location"]

        assert "upload-metadata" not in (await tus.head(bare)).headers
        assert (await tus.head(own)).headers["upload-metadata"] == named["Upload-Metadata"]
        records = [await tus.record(bare), await tus.record(own)]
    assert [record["filename"] for record in records] == ["file", "whole.txt"]
    assert not any("place" in record["metadata"] for record in records)


@pytest.mark.spec("tus-N9")
async def test_a_part_can_be_used_again(service: Service) -> None:
    async with Tus(service) as tus:
        a, b = await partials(tus, b"ab", b"c")
        first = (await concatenate(tus, a, b)).headers["location"]
        second = (await concatenate(tus, a)).headers["location"]
        assert (await tus.delete(a)).status_code == 204
        assert (await tus.delete(b)).status_code == 204

    assert await bytes_of(service, id_of(first)) == b"abc"
    assert await bytes_of(service, id_of(second)) == b"ab"


@pytest.mark.spec("tus-N7", "tus-N11", "tus-N12", "tus-N14")
async def test_a_whole_completes_with_the_last_of_its_parts(service: Service) -> None:
    async with Tus(service) as tus:
        first = await tus.upload(6, PARTIAL, b"abc")
        last = await tus.upload(None, PARTIAL)
        response = await concatenate(tus, first, last)
        assert response.status_code == 201
        whole = response.headers["location"]

        before = (await tus.head(whole)).headers
        assert "upload-offset" not in before
        assert "upload-length" not in before  # Not known yet.
        await tus.patch(last, 0, b"gh", {"Upload-Length": "3"})
        between = (await tus.head(whole)).headers
        assert (between["upload-length"], between.get("upload-offset")) == ("9", None)
        await tus.patch(last, 2, b"i")
        assert await tus.record(whole) is None
        await tus.patch(first, 3, b"def")

        after = (await tus.head(whole)).headers
        assert (after["upload-offset"], after["upload-length"]) == ("9", "9")
        assert (await tus.record(whole))["size"] == 9
    assert await bytes_of(service, id_of(whole)) == b"abcdefghi"


@pytest.mark.spec("tus-N9", "tus-N7")
async def test_every_whole_that_waits_for_a_part_gets_it(service: Service) -> None:
    async with Tus(service) as tus:
        part = await tus.upload(3, PARTIAL)
        wholes = [(await concatenate(tus, part)).headers["location"] for _ in range(2)]
        await tus.patch(part, 0, b"abc")

    assert [await bytes_of(service, id_of(url)) for url in wholes] == [b"abc"] * 2


@pytest.mark.spec("tus-N10")
@pytest.mark.parametrize("finished", [True, False])
async def test_a_whole_takes_no_chunks(service: Service, finished: bool) -> None:
    async with Tus(service) as tus:
        part = await tus.upload(3, PARTIAL, b"abc" if finished else b"ab")
        whole = (await concatenate(tus, part)).headers["location"]
        for offset, body in [(0, b"XYZ"), (2, b"X"), (3, b"X"), (3, b"")]:
            assert (await tus.patch(whole, offset, body)).status_code == 403
        assert await tus.offset(part) == (3 if finished else 2)
        if not finished:
            await tus.patch(part, 2, b"c")
    assert await bytes_of(service, id_of(whole)) == b"abc"


@pytest.mark.spec("tus-N6")
@pytest.mark.parametrize("field", ["Upload-Length", "Upload-Defer-Length"])
async def test_the_length_of_a_whole_is_not_for_the_client_to_say(
    service: Service, field: str
) -> None:
    async with Tus(service) as tus:
        part = (await partials(tus, b"a"))[0]
        response = await concatenate(tus, part, **{field: "1"})

    assert response.status_code == 400
    assert await files(service) == []


@pytest.mark.spec("tus-N2")
async def test_a_concatenation_of_another_form_is_refused(service: Service) -> None:
    async with Tus(service) as tus:
        part = (await partials(tus, b"a"))[0]
        wrong = ["", "partial;", f"partial;{part}", "final", "final;", f"FINAL;{part}", part]
        wrong += [f"final,{part}", f"final;{part},{part}", f"final:{part}", f"final;{part};{part}"]
        statuses = {}
        for value in wrong:
            bare = await tus.create({"Upload-Concat": value})
            with_length = await tus.create({"Upload-Length": "3", "Upload-Concat": value})
            statuses[value] = (bare.status_code, with_length.status_code)

    assert statuses == dict.fromkeys(wrong, (400, 400))
    assert await files(service) == []


@pytest.mark.spec("tus-N16")
async def test_a_part_of_somewhere_else_is_refused(service: Service) -> None:
    async with Tus(service) as tus:
        part = (await partials(tus, b"a"))[0]
        path = f"/uploads/{id_of(part)}"
        elsewhere = [
            f"http://evil.example{path}",
            f"{service.url}.evil.example{path}",
            f"http://evil.example@127.0.0.1:1{path}",
            f"//evil.example{path}",
            f"file://{path}",
            f"{service.url}/files/{id_of(part)}",
            f"/elsewhere/{id_of(part)}",
            f"http://[::1{path}",
        ]
        statuses = {}
        for url in elsewhere:
            statuses[url] = (await concatenate(tus, part, url)).status_code

    assert statuses == dict.fromkeys(elsewhere, 400)
    assert await files(service) == []


@pytest.mark.spec("tus-N2")
async def test_only_parts_that_are_there_can_be_put_together(service: Service) -> None:
    async with Tus(service) as tus:
        part, gone = await partials(tus, b"a", b"b")
        await tus.delete(gone)
        plain = await tus.upload(3)
        whole = (await concatenate(tus, part)).headers["location"]
        unknown = "/uploads/0190a6c4-1f9b-7abc-8def-0123456789ab"
        wrong = [await concatenate(tus, part, url) for url in (gone, unknown, plain, whole)]

    assert [response.status_code for response in wrong] == [404, 404, 400, 400]
    assert len(await files(service)) == 1


@pytest.mark.spec("tus-K13", "tus-N4")
async def test_a_whole_above_the_limit_is_refused(serve: Any) -> None:
    service: Service = await serve(upload={"max_size": 10})
    async with Tus(service) as tus:
        parts = await partials(tus, b"abcd", b"efgh", b"ijkl")
        assert (await concatenate(tus, *parts[:2])).status_code == 201
        assert (await concatenate(tus, *parts)).status_code == 413
    assert [record.size for record in await files(service)] == [8]


@pytest.mark.spec("tus-K13", "tus-N4")
async def test_a_whole_that_outgrows_the_limit_later_is_no_file(serve: Any) -> None:
    service: Service = await serve(upload={"max_size": 10})
    async with Tus(service) as tus:
        known, open_ = await tus.upload(8, PARTIAL, b"x" * 8), await tus.upload(None, PARTIAL)
        whole = (await concatenate(tus, known, open_)).headers["location"]
        await tus.patch(open_, 0, b"x" * 8, {"Upload-Length": "8"})
        await tus.head(whole)

        assert await tus.record(whole) is None
    assert await files(service) == []


@pytest.mark.spec("tus-X2", "tus-N7")
async def test_a_whole_waits_until_the_bytes_of_its_parts_are_verified(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All bytes of a part are on the disk, but their checksum has not been verified."""
    monkeypatch.setattr(writer, "BLOCK", 1)  # Every chunk is written at once.
    service: Service = await serve(streaming={"idle_timeout": 60})
    async with Tus(service) as tus, service.raw_connection() as peer, asyncio.timeout(PATIENCE):
        part = await tus.upload(3, PARTIAL)
        whole = (await concatenate(tus, part)).headers["location"]
        wrong = "Upload-Checksum: crc32 AAAAAA=="
        await begin_patch(peer, part, 0, "Transfer-Encoding: chunked", wrong)
        await peer.send(b"3\r\nabc\r\n")
        # In S3, so few bytes are in memory until their checksum was verified.
        while not stores.SERVER and stores.received(tmp_path / "data", id_of(part)) < 3:
            await asyncio.sleep(0.01)
        await settle(service)

        assert "upload-offset" not in (await tus.head(whole)).headers
        await peer.send(b"0\r\n\r\n")
        assert b" 460 " in await peer.read_head()
        assert await tus.record(whole) is None


@pytest.mark.bound("2.4")
@pytest.mark.fault("G40")
async def test_the_returned_fields_fit_into_the_buffer_of_a_proxy(service: Service) -> None:
    async with Tus(service) as tus:
        part = await tus.upload(1, PARTIAL, b"x")
        metadata = f"key {'QUJD' * 2000}"
        # Clients may write the URL of a part in many ways.
        padding = RETURNED - len(metadata) - len("final;/uploads/") - len(part.rpartition("/")[2])
        fitting = "/uploads/" + "./" * (padding // 2) + part.rpartition("/")[2]
        answers = [
            await tus.create({"Upload-Concat": f"final;{url}", "Upload-Metadata": metadata})
            for url in (fitting, fitting.replace("./", "././", 5))
        ]
        head = await tus.head(answers[0].headers["location"])

    assert [answer.status_code for answer in answers] == [201, 431]
    assert head.headers["upload-metadata"] == metadata
    assert head.headers["upload-concat"] == f"final;{fitting}"
    assert sum(len(name) + len(value) + 4 for name, value in head.headers.raw) < ALL
