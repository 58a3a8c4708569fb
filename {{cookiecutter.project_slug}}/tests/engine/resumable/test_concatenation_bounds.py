"""Concatenation: the work that one request with many URLs can cause is bounded."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from .. import stores
from ..peer import PATIENCE
from ..service import Service, ServiceProcess, identify
from .draft import create
from .test_tus_concatenation import PARTIAL, concatenate, partials
from .tus import Tus, id_of


def stored(tmp_path: Path) -> int:
    """Return the number of bytes in the store, without its reserve."""
    return stores.size(tmp_path / "data")


@pytest.mark.bound("7.1")
@pytest.mark.parametrize("times", [2, 100])
async def test_a_part_is_in_a_file_only_once(service: Service, tmp_path: Path, times: int) -> None:
    async with Tus(service) as tus:
        part = (await partials(tus, b"x" * (1 << 20)))[0]
        again = f"/uploads/{id_of(part)}"

        assert (await concatenate(tus, part, *[again] * (times - 1))).status_code == 400
    assert stored(tmp_path) < 2 << 20


@pytest.mark.bound("7.2")
async def test_a_file_has_a_bounded_number_of_parts(service: Service) -> None:
    async with Tus(service) as tus:
        urls = await partials(tus, *[b"x"] * 101)

        assert (await concatenate(tus, *urls)).status_code == 413
        assert (await concatenate(tus, *urls[1:])).status_code == 201


@pytest.mark.bound("7.3")
async def test_a_part_is_in_a_bounded_number_of_files(service: Service, tmp_path: Path) -> None:
    """Otherwise 1,000 uploads could wait for its last byte, and all be written for it."""
    async with Tus(service) as tus:
        part = await tus.upload(1 << 20, PARTIAL, b"x")
        statuses = [(await concatenate(tus, part)).status_code for _ in range(12)]
        await tus.patch(part, 1, b"x" * ((1 << 20) - 1))

    assert statuses == [201] * 10 + [409] * 2
    assert stored(tmp_path) < 12 << 20


async def test_a_file_that_exceeds_the_quota_is_refused_before_its_first_byte(
    serve: Any, tmp_path: Path
) -> None:
    service: Service = await serve(storage={"quota": "5 MiB"})
    async with Tus(service) as tus:
        urls = await partials(tus, *[b"x" * (1 << 20)] * 3)
        before = stored(tmp_path)

        assert (await concatenate(tus, *urls)).status_code == 413
    assert stored(tmp_path) < before + 100_000


@pytest.mark.local
@pytest.mark.bound("7.4")
@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="needs copy_file_range")
@pytest.mark.slow
async def test_a_concatenation_ends_with_the_drain_and_leaves_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that copies slowly: 20 ms for each system call."""
    slow = tmp_path / "python"
    slow.mkdir()
    calls = tmp_path / "calls"
    (slow / "sitecustomize.py").write_text(
        f"""
import os, time

def copy(source, target, count, real=os.copy_file_range):
    time.sleep(0.02)
    with open({str(calls)!r}, "a") as file:
        file.write("x")
    return real(source, target, min(count, 1 << 14))

os.copy_file_range = copy
"""
    )
    path = os.pathsep.join([str(slow), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    settings = {"STORAGE__URL": "file:data", "SERVER__DRAIN_TIMEOUT": "0.2 s"}
    async with ServiceProcess(tmp_path, **settings) as process, Tus(process) as tus:
        part = (await partials(tus, b"x" * (2 << 20)))[0]
        copying = asyncio.create_task(concatenate(tus, part))
        async with asyncio.timeout(PATIENCE):
            while not calls.exists():
                await asyncio.sleep(0.01)
        process.terminate()
        await process.exit_code()
        await asyncio.gather(copying, return_exceptions=True)

    assert calls.stat().st_size < 100  # The number of calls; a whole copy makes 129.
    [left] = (tmp_path / "data" / "uploads").glob("*.part")
    assert left.stem == id_of(part)
    assert left.stat().st_size == 2 << 20


@pytest.mark.bound("7.5")
async def test_unfinished_uploads_are_bounded(serve: Any) -> None:
    service: Service = await serve(upload={"max_incomplete": 3})
    async with Tus(service) as tus:
        begun = [await tus.create({"Upload-Length": "1"}) for _ in range(5)]
        assert [response.status_code for response in begun] == [201] * 3 + [503] * 2
        assert "retry-after" in begun[-1].headers

        url = begun[0].headers["location"]
        assert (await tus.patch(url, 0, b"x")).status_code == 204
        assert (await tus.create({"Upload-Length": "1"})).status_code == 201


@pytest.mark.fault("G34")
@pytest.mark.bound("7.5")
async def test_one_client_cannot_begin_all_uploads(serve: Any) -> None:
    service: Service = await serve(upload={"max_incomplete_per_client": 3})
    service.app.state.kernel.on_open.append(identify)
    async with Tus(service) as tus:
        ours, theirs = ({"X-Forwarded-For": f"10.0.0.{number}"} for number in (1, 2))
        begun = [await tus.create({"Upload-Length": "1"} | ours) for _ in range(4)]
        drafts = [await create(tus.http, headers=ours, complete=end) for end in (False, True)]
        at_files = await create(tus.http, headers=ours, path="/files")
        plain = await tus.http.post("/files", content=b"x", headers=ours)
        others = [
            await tus.create({"Upload-Length": "1"} | headers)
            for headers in (theirs, ours | {"X-User": "ann"})
        ]
        await service.in_server(service.app.state.uploads.sweep())
        again = await serve(upload={"max_incomplete_per_client": 3})  # On the same directory.
        async with again.client() as client:
            restarted = await create(client, headers=ours)
        await tus.send("DELETE", begun[0].headers["location"])
        after = await create(tus.http, headers=ours)

    refused = [begun[3], *drafts, at_files, restarted]
    assert [answer.status_code for answer in begun] == [201] * 3 + [429]
    assert [answer.status_code for answer in refused] == [429] * 5
    assert all("retry-after" in answer.headers for answer in refused)
    assert [answer.status_code for answer in (plain, *others, after)] == [201] * 4


@pytest.mark.fault("G34")
@pytest.mark.parametrize("setting", ["max_incomplete_per_client", "max_incomplete"])
async def test_parts_of_complete_files_are_not_unfinished(serve: Any, setting: str) -> None:
    service: Service = await serve(upload={setting: 4})
    async with Tus(service) as tus:
        for _ in range(5):  # As clients do that send a file on several connections.
            parts = await partials(tus, b"abc", b"def")
            final = await tus.create({"Upload-Concat": f"final;{' '.join(parts)}"})
            assert final.status_code == 201, final.text
