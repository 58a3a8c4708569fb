"""The directory of a store is moved, replaced or broken while the service runs.

No success is reported for data that a restart would not find, and the readiness check fails.
"""

import asyncio
import errno
from pathlib import Path

import httpx
import pytest

from ..peer import PATIENCE
from ..service import ServiceProcess
from .test_locks import Break, break_call, imported  # noqa: F401

pytestmark = pytest.mark.local

pytest.importorskip("fcntl")

SETTINGS = {"STORAGE__URL": "file:data"}


def swap(data: Path, how: str) -> None:
    """Make the path lead elsewhere: to nothing, an empty directory, or another store."""
    if how == "link":
        data.rename(data.with_name("kept"))
        other = data.with_name("other")
        other.mkdir()
        data.symlink_to(other)
    elif how == "log":
        (data / "catalogue.sqlite3-wal").unlink()
    elif how == "catalogue":
        (data / "catalogue.sqlite3").rename(data / "elsewhere")
    elif how == "files":
        (data / "files").rename(data / "elsewhere")
        (data / "files").mkdir()
    else:
        data.rename(data.with_name("kept"))
        if how == "empty":
            data.mkdir()
        elif how == "folders":
            (data / "parts").mkdir(parents=True)
            (data / "files").mkdir()


async def until_ready(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """Wait until the readiness has this status, and return the response."""
    for _ in range(int(PATIENCE / 0.05)):
        if (response := await client.get("/health/ready")).status_code == status:
            break
        await asyncio.sleep(0.05)
    assert response.status_code == status, response.text
    return response


async def ready(client: httpx.AsyncClient) -> int:
    return (await client.get("/health/ready")).status_code


@pytest.mark.bound("8.1")
@pytest.mark.parametrize(
    "how", ["nothing", "empty", "folders", "link", "files", "catalogue", "log"]
)
@pytest.mark.slow
async def test_no_upload_is_acknowledged_that_a_restart_would_not_find(
    tmp_path: Path, how: str
) -> None:
    pytest.importorskip("{{cookiecutter.package_name}}.engine.upload")
    async with ServiceProcess(tmp_path, **SETTINGS) as process, process.client() as client:
        assert (await client.post("/files", content=b"before")).status_code == 201
        swap(tmp_path / "data", how)

        response = await client.post("/files", content=b"hello")

        assert response.status_code == 503
        assert "retry-after" in response.headers
        assert await ready(client) == 503


@pytest.mark.bound("8.1")
@pytest.mark.slow
async def test_no_deletion_is_acknowledged_that_a_restart_would_undo(tmp_path: Path) -> None:
    file_id = imported(tmp_path)
    async with ServiceProcess(tmp_path, **SETTINGS) as process, process.client() as client:
        swap(tmp_path / "data", "folders")
        assert (await client.delete(f"/files/{file_id}")).status_code == 503
    assert len(list((tmp_path / "kept" / "files").glob("*/*"))) == 1


@pytest.mark.bound("8.2")
@pytest.mark.slow
async def test_the_service_is_ready_again_when_its_directory_is_back(tmp_path: Path) -> None:
    data, kept = tmp_path / "data", tmp_path / "kept"
    file_id = imported(tmp_path)
    async with ServiceProcess(tmp_path, **SETTINGS) as process, process.client() as client:
        assert await ready(client) == 200
        data.rename(kept)
        response = await until_ready(client, 503)
        assert response.json() == {**response.json(), "status": "degraded", "storage": "down"}
        assert (await client.get("/health/live")).status_code == 200

        kept.rename(data)
        await until_ready(client, 200)
        assert (await client.delete(f"/files/{file_id}")).status_code == 204


@pytest.mark.bound("8.3")
@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
@pytest.mark.slow
async def test_a_disk_that_cannot_be_written_is_not_ready_until_it_can(
    tmp_path: Path,
    break_call: Break,  # noqa: F811
    number: int,
) -> None:
    pytest.importorskip("{{cookiecutter.package_name}}.engine.upload")
    mark = break_call("os.fsync", number)
    async with ServiceProcess(tmp_path, **SETTINGS) as process, process.client() as client:
        mark.touch()
        response = await client.post("/files", content=b"hello")
        assert response.status_code == 503
        assert "retry-after" in response.headers
        assert await ready(client) == 503

        mark.unlink()
        await until_ready(client, 200)
        assert (await client.post("/files", content=b"hello")).status_code == 201


@pytest.mark.bound("8.1")
@pytest.mark.slow
async def test_a_sweep_leaves_the_files_of_another_store_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with (
        ServiceProcess(tmp_path, **SETTINGS, STORAGE__SWEEP_INTERVAL="0.05 s") as process,
        process.client() as client,
    ):
        await until_ready(client, 200)
        swap(data, "folders")
        unknown = "0190a6c4-1f9b-7abc-8def-0123456789ab"
        stored, part = data / "files" / unknown[-2:] / unknown, data / "parts" / f"{unknown}.part"
        stored.parent.mkdir()
        stored.write_bytes(b"precious")
        part.write_bytes(b"precious")
        async with asyncio.timeout(PATIENCE):
            while await ready(client) == 200 and stored.exists():
                await asyncio.sleep(0.05)

        assert stored.exists()
        assert part.exists()
        assert await ready(client) == 503
