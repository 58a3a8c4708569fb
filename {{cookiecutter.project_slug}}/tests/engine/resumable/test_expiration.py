"""Expired uploads: their bytes are removed, and their owners get 410 for another period."""

import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..service import Service, identify
from .draft import create
from .tus import Tus, id_of


def let_expire(tmp_path: Path, url: str) -> None:
    """Make an upload older than its lifetime of one day."""
    part = tmp_path / "data" / "uploads" / f"{id_of(url)}.part"
    os.utime(part, (time.time() - 86_401,) * 2)


@pytest.mark.fault("F12")
@pytest.mark.spec("tus-E6", "draft-S1")
@pytest.mark.parametrize("swept", [False, True])
async def test_only_its_owner_is_told_that_an_upload_has_expired(
    service: Service, tmp_path: Path, swept: bool
) -> None:
    service.app.state.kernel.on_open.append(identify)
    async with service.client() as client:
        url = (await create(client, b"abc", {"X-User": "ann"})).headers["location"]
        let_expire(tmp_path, url)
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
        let_expire(tmp_path, first.headers["location"])
        await service.in_server(service.app.state.uploads.sweep())

        assert (await client.head(first.headers["location"])).status_code == 410
        assert (await begin_one(client)).status_code == 201


@pytest.mark.spec("tus-N2")
async def test_an_upload_that_has_expired_is_no_part_of_another(
    service: Service, tmp_path: Path
) -> None:
    async with Tus(service) as tus:
        part = await tus.upload(3, {"Upload-Concat": "partial"}, b"abc")
        let_expire(tmp_path, part)
        await service.in_server(service.app.state.uploads.sweep())

        whole = await tus.create({"Upload-Concat": f"final;{part}"})
    assert whole.status_code == 404
