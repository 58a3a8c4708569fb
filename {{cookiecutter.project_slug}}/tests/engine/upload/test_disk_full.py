"""A full disk: uploads get 507, no partial file stays, and other requests still work."""

import asyncio
import errno
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.storage import place

from ..service import Service, ServiceProcess
from ..storage.stored import bytes_of, files, store
from .disk import SIZE, fill, free, is_full, small_disk, take_inodes
from .forms import FORM, file, form
from .uploads import left_behind, sha256

pytestmark = pytest.mark.local

#: Bytes by which the catalogue may have grown.
RECORDS = 256 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "data") as path:
        yield path


@pytest.fixture
async def service(disk: Path, serve: Callable[..., Any]) -> Service:
    """The service on the small disk, without a reserve."""
    started: Service = await serve(storage={"keep_free": 1})
    return started


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 16):
        yield data[start : start + (1 << 16)]


async def post(service: Service, data: bytes, kind: str) -> httpx.Response:
    """Upload without a declared length, because a declared one is refused at once."""
    whole = form(file("f", data)) if kind == "form" else data
    headers = {"Content-Type": FORM} if kind == "form" else {}
    async with service.client() as client:
        return await client.post("/files", content=pieces(whole), headers=headers)


@pytest.mark.trap("U4", "U5")
@pytest.mark.parametrize("kind", ["raw", "form"])
async def test_an_upload_that_fills_the_disk_is_507_and_leaves_no_fragment(
    service: Service, disk: Path, tmp_path: Path, kind: str
) -> None:
    before = free(disk)

    answer = await post(service, random.randbytes(2 * SIZE), kind)

    assert is_full(answer), answer.text
    assert left_behind(tmp_path) == []
    assert await files(service) == []
    assert free(disk) > before - RECORDS
    data = random.randbytes(SIZE // 2)
    assert (await post(service, data, kind)).status_code == 201
    [record] = await files(service)
    assert sha256(await bytes_of(service, record.id)) == sha256(data)


@pytest.mark.trap("U4")
@pytest.mark.parametrize("kind", ["raw", "form"])
@pytest.mark.bound("H15")
async def test_an_upload_takes_nothing_of_what_is_to_be_kept_free(
    serve: Callable[..., Any], disk: Path, kind: str
) -> None:
    service: Service = await serve(storage={"keep_free": SIZE // 2})
    lowest = SIZE

    async def watched() -> httpx.Response:
        return await post(service, random.randbytes(2 * SIZE), kind)

    upload = asyncio.create_task(watched())
    while not upload.done():
        lowest = min(lowest, free(disk))
        await asyncio.sleep(0)

    assert is_full(upload.result())
    assert lowest > SIZE // 2 - (2 << 20)  # Each block is checked once more when it is written.
    assert (await post(service, b"x", kind)).status_code == 201


async def test_a_length_that_does_not_fit_is_refused_before_the_body(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(b"POST /files HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n")
        await peer.send(b"Content-Length: %d\r\n\r\n" % (2 * SIZE))

        assert b" 507 " in await peer.read_head()


@pytest.mark.trap("U4")
async def test_of_uploads_that_fit_only_one_by_one_none_is_half_there(
    service: Service, tmp_path: Path
) -> None:
    bodies = [random.randbytes(SIZE * 5 // 8) for _ in range(3)]
    async with service.client() as client:
        uploads = (client.post("/files", content=body) for body in bodies)
        answers = await asyncio.gather(*uploads)

    assert {answer.status_code for answer in answers} <= {201, 507}
    assert sum(is_full(answer) for answer in answers) >= 2
    stored = [sha256(await bytes_of(service, record.id)) for record in await files(service)]
    told = [body for body, answer in zip(bodies, answers, strict=True) if answer.is_success]
    assert sorted(stored) == sorted(map(sha256, told))
    assert left_behind(tmp_path) == []


@pytest.mark.trap("U4", "U5")
@pytest.mark.parametrize("kind", ["raw", "form"])
@pytest.mark.slow
async def test_where_not_even_a_record_fits_an_upload_is_refused_and_others_are_read(
    service: Service, disk: Path, tmp_path: Path, kind: str
) -> None:
    data = random.randbytes(100_000)
    file_id = await store(service, data)
    filler = fill(disk)
    async with service.client() as client:
        refused = [await post(service, b"", kind) for _ in range(100)]
        assert any(map(is_full, refused))
        assert {answer.status_code for answer in refused} <= {201, 507}
        assert left_behind(tmp_path) == []
        assert (await client.get("/files")).text.count('"id"') == len(await files(service))
        assert sha256(await bytes_of(service, file_id)) == sha256(data)

        assert (await client.delete(f"/files/{file_id}")).status_code == 204
        assert free(disk) > 0
        filler.unlink()
        assert (await post(service, data, kind)).status_code == 201
    assert file_id not in [record.id for record in await files(service)]


@pytest.mark.fault("G19")
@pytest.mark.slow
async def test_an_empty_file_is_deleted_from_a_full_disk(service: Service, disk: Path) -> None:
    async with service.client() as client:
        fill(disk, leave=200_000)
        answers = [await client.post("/files", content=b"") for _ in range(100)]
        assert is_full(answers[-1])
        for record in await files(service):
            assert (await client.delete(f"/files/{record.id}")).status_code == 204
    assert await files(service) == []


@pytest.fixture
def disk_of_inodes(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "data", inodes=400) as path:
        yield path


@pytest.mark.fault("G19")
async def test_files_are_deleted_when_no_inode_is_left(
    disk_of_inodes: Path, serve: Callable[..., Any], tmp_path: Path
) -> None:
    service: Service = await serve(storage={"keep_free": 1})
    stored = [await store(service, b"x") for _ in range(5)]
    take_inodes(disk_of_inodes)

    async with service.client() as client:
        assert is_full(await client.post("/files", content=b"x"))
        answers = await asyncio.gather(*(client.delete(f"/files/{each}") for each in stored))
        assert [answer.status_code for answer in answers] == [204] * 5
        assert (await client.post("/files", content=b"x")).status_code == 201
    assert left_behind(tmp_path) == []


@pytest.mark.fault("G19")
@pytest.mark.slow
async def test_a_service_starts_and_deletes_on_a_full_disk(disk: Path, tmp_path: Path) -> None:
    settings = {"STORAGE__URL": "file:data", "STORAGE__KEEP_FREE": "1"}
    async with ServiceProcess(tmp_path, **settings) as process, process.client() as client:
        file_id = (await client.post("/files", content=b"")).json()["id"]
        process.terminate()
        await process.exit_code()
    fill(disk)
    async with ServiceProcess(tmp_path, **settings) as process, process.client() as client:
        assert (await client.delete(f"/files/{file_id}")).status_code == 204


@pytest.mark.fault("G19")
async def test_a_service_starts_and_deletes_when_no_inode_is_left(
    disk_of_inodes: Path, serve: Callable[..., Any]
) -> None:
    service: Service = await serve(storage={"keep_free": 1})
    file_id = await store(service, b"x")
    take_inodes(disk_of_inodes)

    started: Service = await serve(storage={"keep_free": 1})

    async with started.client() as client:
        assert (await client.delete(f"/files/{file_id}")).status_code == 204


@pytest.mark.fault("G19")
async def test_a_quota_of_the_disk_is_a_full_disk_too(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite reports `EDQUOT` like a broken disk."""
    file_id = await store(service, b"x")
    storage = service.app.state.storage
    real, calls = storage.catalogue.remove, count()

    async def remove(file_id: str) -> Any:
        if next(calls) == 0:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error
        return await real(file_id)

    def limited(**_: object) -> Any:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(storage.catalogue, "remove", remove)
    monkeypatch.setattr(place, "tempfile", SimpleNamespace(TemporaryFile=limited))
    async with service.client() as client:
        assert (await client.delete(f"/files/{file_id}")).status_code == 204
        assert (await client.get("/health/ready")).status_code == 200
    assert await files(service) == []
