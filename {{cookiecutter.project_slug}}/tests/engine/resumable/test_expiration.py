"""Expired uploads: their bytes are removed, and their owners get 410 for another period."""

import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..service import Service, ServiceProcess, identify
from .draft import begin, create, offset_of
from .tus import Tus, make_older


def let_expire(service: Service, tmp_path: Path, url: str) -> None:
    """Make an upload a minute older than its lifetime of one day."""
    make_older(service, tmp_path, url, 86_460)


@pytest.mark.fault("F12")
@pytest.mark.spec("tus-E6", "draft-S1")
@pytest.mark.parametrize("swept", [False, True])
async def test_only_its_owner_is_told_that_an_upload_has_expired(
    service: Service, tmp_path: Path, swept: bool
) -> None:
    service.app.state.kernel.on_open.append(identify)
    async with service.client() as client:
        url = (await create(client, b"abc", {"X-User": "ann"})).headers["location"]
        let_expire(service, tmp_path, url)
        if swept:
            await service.in_server(service.app.state.uploads.sweep())

        answers = [await client.head(url, headers={"X-User": name}) for name in ("ann", "bob")]
        nobody = await client.head(url)
    assert [answer.status_code for answer in answers] == [410, 404]
    assert nobody.status_code == 404


@pytest.mark.bound("H16")
async def test_an_upload_that_has_expired_takes_nothing_of_a_quota(
    serve: Any, tmp_path: Path
) -> None:
    service: Service = await serve(storage={"quota": 1000})

    async def begin_one(client: httpx.AsyncClient) -> httpx.Response:
        return await create(client, b"abc", {"Upload-Length": "900"})

    async with service.client() as client:
        first = await begin_one(client)
        assert (await begin_one(client)).status_code == 413
        let_expire(service, tmp_path, first.headers["location"])
        await service.in_server(service.app.state.uploads.sweep())

        assert (await client.head(first.headers["location"])).status_code == 410
        assert (await begin_one(client)).status_code == 201


@pytest.mark.spec("tus-N2")
async def test_an_upload_that_has_expired_is_no_part_of_another(
    service: Service, tmp_path: Path
) -> None:
    async with Tus(service) as tus:
        part = await tus.upload(3, {"Upload-Concat": "partial"}, b"abc")
        let_expire(service, tmp_path, part)
        await service.in_server(service.app.state.uploads.sweep())

        whole = await tus.create({"Upload-Concat": f"final;{part}"})
    assert whole.status_code == 404


DAYS = 2 * 86_400.0
AHEAD = f"""
import time

real = time.time
time.time = lambda: real() + {DAYS}
"""


def shift_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)


def was_seen(tmp_path: Path, ago: float, steady_ago: float) -> None:
    """Make the last sweep older, by the wall clock and by the steady clock."""
    clock = tmp_path / "data" / "clock"
    wall, steady = map(float, clock.read_text().split())
    clock.write_text(f"{wall - ago} {steady - steady_ago}")


@pytest.mark.fault("G37")
@pytest.mark.parametrize("back", [False, True])
async def test_an_upload_survives_a_jump_of_the_clock(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    async with service.client() as client:
        url, old = await begin(client, b"abc"), await begin(client, b"abc")
        let_expire(service, tmp_path, old)
        with monkeypatch.context() as patch:
            shift_clock(patch, -DAYS if back else DAYS)
            assert await offset_of(client, url) == 3
            await service.in_server(service.app.state.uploads.sweep())
            assert await offset_of(client, url) == 3
        await service.in_server(service.app.state.uploads.sweep())
        assert await offset_of(client, url) == 3
        if back:
            assert (await client.head(old)).status_code == 410


@pytest.mark.local  # S3 refuses requests of a clock that is wrong by 15 minutes.
@pytest.mark.fault("G37")
@pytest.mark.slow
async def test_an_upload_survives_a_start_with_a_wrong_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ServiceProcess(tmp_path) as process, process.client() as client:
        path = httpx.URL(await begin(client, b"abc")).path
    (tmp_path / "sitecustomize.py").write_text(AHEAD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    for _ in range(2):
        async with ServiceProcess(tmp_path) as process, process.client() as client:
            assert await offset_of(client, path) == 3


@pytest.mark.local
@pytest.mark.fault("G37")
@pytest.mark.parametrize(("steady_ago", "status"), [(DAYS, 410), (-1e9, 204)])
async def test_a_lifetime_goes_on_while_the_service_is_stopped_but_not_during_a_reboot(
    serve: Any, tmp_path: Path, steady_ago: float, status: int
) -> None:
    first: Service = await serve()
    async with first.client() as client:
        path = httpx.URL(await begin(client, b"abc")).path
    os.utime(next((tmp_path / "data" / "uploads").glob("*.part")), (time.time() - DAYS - 1,) * 2)
    was_seen(tmp_path, DAYS, steady_ago)

    second: Service = await serve()

    async with second.client() as client:
        assert (await client.head(path)).status_code == status
