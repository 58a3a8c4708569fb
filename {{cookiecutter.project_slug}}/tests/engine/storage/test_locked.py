"""Another process has locked the catalogue: reads work, and changes get 503 after some time."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.storage import catalogue

from ..peer import PATIENCE
from ..service import Service
from .locked import locked
from .stored import files, store

pytestmark = pytest.mark.local


@pytest.mark.fault("G18")
async def test_reads_do_not_wait_for_a_write_that_waits(service: Service, tmp_path: Path) -> None:
    file_id = await store(service, b"x")
    claim = tmp_path / "data" / "parts" / f"{file_id}.lock"
    async with service.client() as client, asyncio.timeout(PATIENCE):
        with locked(tmp_path / "data"):
            deletion = asyncio.create_task(client.delete(f"/files/{file_id}"))
            while not claim.exists():
                await asyncio.sleep(0.01)
            paths = ["/files", f"/files/{file_id}/record", "/health/ready"]
            reads = [await client.get(path) for path in paths]
            assert not deletion.done()
        assert (await deletion).status_code == 204

    assert [read.status_code for read in reads] == [200, 200, 200]


@pytest.mark.fault("G18")
async def test_changes_get_503_after_one_limited_time_for_all_of_them(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "WRITE_SECONDS", 0.5, raising=False)
    file_ids = [await store(service, b"x") for _ in range(8)]
    async with service.client() as client:

        async def delete(file_id: str) -> httpx.Response:
            return await client.delete(f"/files/{file_id}")

        with locked(tmp_path / "data"):
            begun = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                refused = await asyncio.gather(*map(delete, file_ids))
            seconds = time.monotonic() - begun
        assert len(await files(service)) == len(file_ids)
        deleted = await asyncio.gather(*map(delete, file_ids))

    assert {response.status_code for response in refused} == {503}
    assert all("retry-after" in response.headers for response in refused)
    assert seconds < 0.5 * len(file_ids) / 2
    assert {response.status_code for response in deleted} == {204}
