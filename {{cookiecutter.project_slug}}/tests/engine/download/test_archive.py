"""Archives: the chosen files under safe names, or a visible failure."""

import hashlib
import io
import random
import shutil
import sqlite3
import unicodedata
import zlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import anyio
import httpx
import pytest

from {{cookiecutter.package_name}}.engine.download import zip_stream
from {{cookiecutter.package_name}}.engine.download.archive import MAX_FILES, Names
from {{cookiecutter.package_name}}.engine.storage import Draft, FileRecord
from {{cookiecutter.package_name}}.engine.storage.part import open_storage
from {{cookiecutter.package_name}}.engine.storage.records import new_id

from ..peer import PATIENCE
from ..service import SOAK, Service, ServiceProcess, make_settings
from ..storage.stored import insert, lose, store

UNKNOWN = "01a203f1-0be9-76ef-96de-a7f65289fcd1"


@pytest.fixture
async def patient(serve: Any) -> Service:
    """A service whose clients may receive slowly."""
    started: Service = await serve(streaming={"send_timeout": PATIENCE})
    return started


def address(*file_ids: str) -> str:
    return "/archive?" + "&".join(f"id={file_id}" for file_id in file_ids)


def unpacked(data: bytes) -> dict[str, bytes]:
    with ZipFile(io.BytesIO(data)) as reader:
        assert reader.testzip() is None
        return {info.filename: reader.read(info) for info in reader.infolist()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a.txt", "b.txt"], ["a.txt", "b.txt"]),
        (["a.txt", "a.txt", "a.txt"], ["a.txt", "a (1).txt", "a (2).txt"]),
        (["a.txt", "A.TXT", "a.Txt"], ["a.txt", "A (1).TXT", "a (2).Txt"]),
        (["a (1).txt", "a.txt", "a.txt"], ["a (1).txt", "a.txt", "a (2).txt"]),
        (["a.txt", "a.txt", "a (1).txt"], ["a.txt", "a (1).txt", "a (1) (1).txt"]),
        (["é", unicodedata.normalize("NFD", "é")], ["é", "é (1)"]),
        (["straße", "STRASSE"], ["straße", "STRASSE (1)"]),
        (["a.tar.gz", "a.tar.gz"], ["a.tar.gz", "a.tar (1).gz"]),
        (["../../etc/passwd", "/etc/passwd"], ["passwd", "passwd (1)"]),
        (["C:\\evil.exe", "a:stream", ".."], ["evil.exe", "a_stream", "file"]),
        (["", "\0", "nul.txt"], ["file", "file (1)", "_nul.txt"]),
    ],
)
def test_names_are_safe_and_distinct(given: list[str], expected: list[str]) -> None:
    names = Names()
    assert [names.unique(name) for name in given] == expected


@pytest.mark.parametrize("letter", ["x", "é", "🎉"])
def test_a_long_name_that_occurs_often_stays_short_enough(letter: str) -> None:
    count, unique = 10_000, Names()
    names = [unique.unique(letter * 255 + ".txt") for _ in range(count)]

    assert len({name.casefold() for name in names}) == count
    assert max(len(name.encode()) for name in names) <= 255
    assert {name[-4:] for name in names} == {".txt"}


async def test_the_chosen_files_come_in_the_order_they_were_asked_for(service: Service) -> None:
    contents = {"b.txt": b"second" * 9, "ä/日本.bin": random.randbytes(700_000), "empty": b""}
    file_ids = [await store(service, data, filename=name) for name, data in contents.items()]
    async with service.client() as client:
        response = await client.get(address(*file_ids, file_ids[0]))

    assert response.status_code == 200
    assert response.headers["content-length"] == str(len(response.content))
    found = unpacked(response.content)
    assert list(found) == ["b.txt", "日本.bin", "empty"]
    assert [hashlib.sha256(data).digest() for data in found.values()] == [
        hashlib.sha256(data).digest() for data in contents.values()
    ]
    with ZipFile(io.BytesIO(response.content)) as reader:
        assert {info.compress_type for info in reader.infolist()} == {ZIP_STORED}
        assert all(0 <= age(info) < 3600 for info in reader.infolist())
    assert await service.outcome_of("GET /archive") == "complete"


def age(info: ZipInfo) -> float:
    return (datetime.now(UTC) - datetime(*info.date_time, tzinfo=UTC)).total_seconds()


async def test_an_archive_is_a_download_that_no_cache_keeps(service: Service) -> None:
    file_id = await store(service, b"x")
    async with service.client() as client:
        got = await client.get(address(file_id))
        head = await client.head(address(file_id), headers={"Range": "bytes=0-1"})

    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert got.headers["content-type"] == "application/zip"
    assert got.headers["content-disposition"].startswith('attachment; filename="archive.zip"')
    assert got.headers["cache-control"] == "private, no-cache"
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert got.headers["cross-origin-resource-policy"] == "same-origin"
    varying = {"date", "x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in varying} == {
        k: v for k, v in got.headers.items() if k not in varying
    }


@pytest.mark.trap("E7")
async def test_the_documentation_says_what_an_archive_is(service: Service) -> None:
    async with service.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]

    responses = paths["/archive"]["get"]["responses"]
    assert list(responses["200"]["content"]) == ["application/zip"]
    assert {"206", "304", "404", "412", "416", "422"} < responses.keys()
    body = paths["/archive"]["post"]["requestBody"]["content"]
    assert body.keys() == {"application/json", "application/x-www-form-urlencoded"}


async def test_a_client_that_has_the_archive_is_told_so(service: Service) -> None:
    file_ids = [await store(service, b"1"), await store(service, b"2")]
    async with service.client() as client:
        tag = (await client.head(address(*file_ids))).headers["etag"]
        known = {"If-None-Match": tag}
        same = await client.get(address(*file_ids), headers=known)
        other = await client.get(address(*reversed(file_ids)), headers=known)
        failed = await client.get(address(file_ids[0]), headers={"If-Match": tag})

    assert [same.status_code, other.status_code, failed.status_code] == [304, 200, 412]
    assert (same.content, same.headers["etag"]) == (b"", tag)
    assert same.headers["cache-control"] == "private, no-cache"


@pytest.mark.fault("G26")
async def test_an_interrupted_archive_is_resumed_where_it_ended(service: Service) -> None:
    sizes = [300, 70_000, 3_000_000, 0, 20]
    file_ids = [await store(service, random.randbytes(size)) for size in sizes]
    async with service.client() as client:
        whole = await client.get(address(*file_ids))
        size = len(whole.content)
        tag = whole.headers["etag"]
        for start in (0, 1, 40, 60_000, 1_000_000, size - 300, size - 1):
            fields = {"If-Range": tag, "Range": f"bytes={start}-"}
            rest = await client.get(address(*file_ids), headers=fields)
            assert (rest.status_code, rest.headers["accept-ranges"]) == (206, "bytes")
            assert rest.headers["content-range"] == f"bytes {start}-{size - 1}/{size}"
            assert rest.content == whole.content[start:]
        beyond = await client.get(address(*file_ids), headers={"Range": f"bytes={size}-"})
        parts = await client.get(address(*file_ids), headers={"Range": "bytes=0-9, 5000-5009"})

    assert (whole.headers["accept-ranges"], beyond.status_code) == ("bytes", 416)
    assert parts.headers["content-type"].startswith("multipart/byteranges")
    for start in (0, 5000):
        assert whole.content[start : start + 10] in parts.content


@pytest.mark.fault("G26")
@pytest.mark.parametrize("validator", ['"other"', 'W/"other"', "date"])
async def test_another_archive_is_not_resumed(service: Service, validator: str) -> None:
    at = datetime.now(UTC) - timedelta(days=1)
    file_id = await store(service, b"x" * 1000)
    record = FileRecord(id=file_id, filename="f", size=1000, created_at=at)
    catalogue = service.app.state.storage.catalogue
    change = "UPDATE files SET record = ? WHERE id = ?"
    await service.in_server(catalogue.write(change, record.model_dump_json(), file_id))
    if validator == "date":
        validator = format_datetime(at, usegmt=True)
    async with service.client() as client:
        fields = {"Range": "bytes=5-", "If-Range": validator}
        response = await client.get(address(file_id), headers=fields)

    assert response.status_code == 200
    assert list(unpacked(response.content)) == ["f"]


@pytest.mark.fault("G26")
async def test_the_checksum_of_a_file_is_kept(service: Service) -> None:
    data = {"small": b"s" * 100, "large": b"l" * 2_000_000}
    file_ids = [await store(service, each, filename=name) for name, each in data.items()]
    storage = service.app.state.storage
    async with service.client() as client:
        await client.get(address(*file_ids))
        found = await service.in_server(storage.find(file_ids))
        listed = (await client.get("/files")).text

    assert [found[each].crc32 for each in file_ids] == [zlib.crc32(each) for each in data.values()]
    assert "crc32" not in listed


@pytest.mark.fault("G26")
async def test_an_archive_that_cannot_be_resumed_says_so(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_stream, "AHEAD", 1000)
    file_ids = [await store(service, b"x" * 2_000_000) for _ in range(2)]
    async with service.client() as client:
        first = await client.get(address(*file_ids), headers={"Range": "bytes=5-"})
        tag = first.headers["etag"]
        fields = {"Range": "bytes=5-", "If-Range": tag, "If-None-Match": tag}
        second = await client.get(address(*file_ids), headers=fields)
        third = await client.get(address(*file_ids), headers={"Range": "bytes=5-"})

    assert (first.status_code, first.headers["accept-ranges"]) == (200, "none")
    assert (second.status_code, second.headers["accept-ranges"]) == (200, "bytes")
    assert (third.status_code, third.content) == (206, second.content[5:])
    assert second.headers["etag"] != tag
    assert unpacked(first.content) == unpacked(second.content)


@pytest.mark.fault("G26")
async def test_the_checksums_of_an_aborted_archive_are_kept(
    patient: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_stream, "AHEAD", 1000)
    file_ids = [await store(patient, b"x" * 2_000_000), await store(patient, b"y" * (32 << 20))]
    storage = patient.app.state.storage
    async with patient.raw_connection(receive_buffer=4096) as peer:
        await peer.get(address(*file_ids))
        for _ in range(2):
            await peer.read_until(b"PK\3\4")
        peer.reset()
        assert await patient.outcome_of("GET /archive") == "client_abort"

    found = await patient.in_server(storage.find(file_ids))
    assert [found[each].crc32 for each in file_ids] == [zlib.crc32(b"x" * 2_000_000), None]


@pytest.mark.fault("G26")
async def test_an_archive_is_sent_though_no_checksum_can_be_kept(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(values: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    file_id = await store(service, b"x")
    monkeypatch.setattr(service.app.state.storage.catalogue, "keep_crc32", fail)
    async with service.client() as client:
        response = await client.get(address(file_id))

    assert unpacked(response.content) == {"f": b"x"}


FORM = "application/x-www-form-urlencoded"


@pytest.mark.fault("G26")
@pytest.mark.parametrize("kind", ["json", "form"])
async def test_more_files_than_fit_into_a_url_are_posted(service: Service, kind: str) -> None:
    file_ids = [await store(service, str(number).encode()) for number in range(3)]
    asked = [*file_ids, *[file_ids[0]] * MAX_FILES, file_ids[1]]
    body = {"json": asked} if kind == "json" else {"data": {"id": asked, "other": "x"}}
    async with service.client() as client:
        got = await client.get(address(*file_ids))
        posted = await client.post("/archive", **body, headers={"Range": "bytes=5-"})

    assert (posted.status_code, posted.content) == (200, got.content)
    assert posted.headers["content-length"] == got.headers["content-length"]
    assert posted.headers["content-type"] == "application/zip"
    assert posted.headers["content-disposition"] == got.headers["content-disposition"]
    assert posted.headers["accept-ranges"] == "none"
    assert posted.headers["cache-control"] == "no-store"
    assert await service.outcome_of("POST /archive") == "complete"


@pytest.mark.fault("G26")
@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("application/json", f'["{UNKNOWN}"]', 404),
        ("application/json", '["nope"]', 404),
        ("application/json", "[]", 422),
        ("application/json", "", 422),
        ("application/json", "{}", 422),
        ("application/json", '"x"', 422),
        ("application/json", "[1, null]", 422),
        ("application/json", "[" * 50_000, 422),
        ("application/json", '["\\ud800"]', 422),
        ("application/json; charset=latin1", "[]", 415),
        (FORM, f"id={UNKNOWN}", 404),
        (FORM, "id=%FF&id=%00", 404),
        (FORM, "", 422),
        (FORM, "x=1", 422),
        ("text/plain", UNKNOWN, 415),
        ("multipart/form-data; boundary=x", "", 415),
    ],
)
async def test_a_body_without_ids_is_refused(
    service: Service, media_type: str, body: str, status: int
) -> None:
    async with service.client() as client:
        response = await client.post("/archive", content=body, headers={"Content-Type": media_type})

    assert response.status_code == status
    assert response.headers["content-type"] == service.app.state.kernel.media_type
    assert len(response.content) < 2000


@pytest.mark.bound("15.5")
@pytest.mark.fault("G26")
@pytest.mark.parametrize("kind", ["json", "form"])
async def test_a_posted_archive_is_limited(serve: Any, kind: str) -> None:
    service: Service = await serve(download={"max_archived": 3})
    file_id = await store(service, b"x")
    statuses = []
    async with service.client() as client:
        for count in (3, 4, 400):
            ids = [file_id] * count
            body = {"json": ids} if kind == "json" else {"data": {"id": ids}}
            statuses.append((await client.post("/archive", **body)).status_code)

    assert statuses == [200, 413, 413]


@pytest.mark.bound("15.1")
@pytest.mark.fault("G26")
async def test_small_files_of_an_archive_are_read_together(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_ids = [await store(service, str(number).encode()) for number in range(100)]
    storage = service.app.state.storage
    read, groups = storage.read_small, list[int]()

    async def counted(files: Any) -> Any:
        groups.append(len(files))
        return await read(files)

    monkeypatch.setattr(storage, "read_small", counted)
    async with service.client() as client:
        response = await client.post("/archive", json=file_ids)

    assert list(unpacked(response.content).values()) == [b"%d" % number for number in range(100)]
    assert groups == [64, 36]


@pytest.mark.fault("G26")
async def test_a_page_of_another_site_cannot_post_a_form(service: Service) -> None:
    file_id = await store(service, b"x")
    statuses = []
    async with service.client() as client:
        for fields in (
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-origin"},
        ):
            posted = await client.post("/archive", data={"id": file_id}, headers=fields)
            statuses.append(posted.status_code)

    assert statuses == [403, 403, 200]


@pytest.mark.trap("D1", "D2", "D14")
@pytest.mark.parametrize("unknown", [UNKNOWN, "nope", "../../etc/passwd"])
async def test_an_unknown_file_is_named_before_the_first_byte(
    service: Service, unknown: str
) -> None:
    known = await store(service, b"x")
    async with service.client() as client:
        response = await client.get(address(known, unknown))

    assert response.status_code == 404
    assert unknown in response.json()["detail"]
    assert "content-disposition" not in response.headers


@pytest.mark.bound("H18")
async def test_no_file_and_too_many_are_refused(service: Service) -> None:
    file_id = await store(service, b"x")
    async with service.client() as client:
        none = await client.get("/archive")
        most = await client.get(address(*[file_id] * MAX_FILES))
        more = await client.get(address(*[file_id] * (MAX_FILES + 1)))

    assert [none.status_code, most.status_code, more.status_code] == [422, 200, 422]


@pytest.mark.bound("15.1")
async def test_the_files_of_an_archive_are_looked_up_together(service: Service) -> None:
    catalogue = service.app.state.storage.catalogue
    at = datetime(2024, 1, 1, tzinfo=UTC)
    records = [FileRecord(id=new_id(), filename="a", size=1, created_at=at) for _ in range(500)]
    statements: list[str] = []

    await insert(service, records)
    await service.call(lambda: catalogue._reader.set_trace_callback(statements.append))
    async with service.client() as client:
        response = await client.head(address(*(record.id for record in records)))

    assert response.status_code == 200
    assert 0 < len([each for each in statements if "SELECT" in each]) < 20


@pytest.mark.trap("D13")
@pytest.mark.parametrize("deleted", [True, False])
async def test_a_file_that_is_lost_half_way_aborts_the_archive(
    service: Service, deleted: bool
) -> None:
    file_ids = [await store(service, b"x" * 1_000_000) for _ in range(3)]
    lose(service, file_ids[1], kept=0 if deleted else 300_000)

    async with service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(address(*file_ids))
    assert await service.outcome_of("GET /archive") == "server_error"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.trap("D13")
async def test_curl_tells_a_broken_archive(service: Service, tmp_path: Path) -> None:
    file_ids = [await store(service, b"x" * 1_000_000) for _ in range(2)]
    url = service.url + address(*file_ids)
    command = ["curl", "-sS", "--noproxy", "*", "-o", str(tmp_path / "a.zip"), url]
    whole = await anyio.run_process(command, check=False)
    lose(service, file_ids[1])
    cut = await anyio.run_process(command, check=False)

    assert (whole.returncode, cut.returncode) == (0, 18)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.trap("D6", "D8")
@pytest.mark.slow
async def test_one_file_is_open_at_a_time_and_closed_when_the_client_leaves(
    patient: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_ids = [await store(patient, b"x" * (1 << 20), filename=str(n)) for n in range(40)]
    storage = patient.app.state.storage
    read, events = storage.read, list[tuple[str, str]]()
    kept = []  # Prevents garbage collection, which would close them.

    async def watch(file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        events.append(("open", file_id))
        try:
            async for chunk in read(file_id, start, stop):
                yield chunk
        finally:
            events.append(("close", file_id))

    def watched(file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        kept.append(watch(file_id, start, stop))
        return kept[-1]

    monkeypatch.setattr(storage, "read", watched)
    async with patient.raw_connection(receive_buffer=4096) as peer:
        await peer.get(address(*file_ids))
        for _ in range(2):
            await peer.read_until(b"PK\3\4")
        peer.reset()
        assert await patient.outcome_of("GET /archive") == "client_abort"

    expected = [(event, file_id) for file_id in file_ids for event in ("open", "close")]
    assert 2 <= len(events) < len(expected)
    assert events == expected[: len(events)]
    assert len(events) % 2 == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.slow
async def test_the_memory_is_flat_whatever_the_archive(tmp_path: Path) -> None:
    size = min(SOAK, 16) * (8 << 20)
    file_ids = []
    async with open_storage(
        make_settings(storage={"url": f"file:{tmp_path / 'data'}"}).storage
    ) as storage:
        for _ in range(16):
            async with storage.create(Draft(filename="large")) as writer:
                await writer.write(b"x" * size)
                file_ids.append((await storage.commit(writer)).id)

    async with ServiceProcess(tmp_path) as process, process.client() as client:
        await client.get(address(file_ids[0]))
        idle = process.peak_memory()
        async with client.stream("GET", address(*file_ids)) as response:
            received = sum([len(chunk) async for chunk in response.aiter_raw(1 << 20)])

        assert received == int(response.headers["content-length"]) > 16 * size
        assert process.peak_memory() - idle < 16 << 20
