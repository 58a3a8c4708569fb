"""A full disk: the bytes of an upload are kept, and it continues when there is space."""

import base64
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..service import Service
from ..storage.stored import bytes_of, files
from ..upload.disk import SIZE, fill, free, is_full, small_disk, take_inodes
from ..upload.uploads import sha256
from . import draft
from .tus import CHUNK, Tus, in_pieces, unfinished

pytestmark = pytest.mark.local

DATA = random.Random(0).randbytes(SIZE // 2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "data") as path:
        yield path


@pytest.fixture
async def service(disk: Path, serve: Callable[..., Any]) -> Service:
    """The service on the small disk, without a reserve."""
    started: Service = await serve(storage={"keep_free": 1})
    return started


class OfTus:
    """An upload with tus."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def begin(self, data: bytes = b"") -> httpx.Response:
        fields = {"Upload-Defer-Length": "1", "Content-Type": CHUNK}
        async with Tus(self.service) as tus:
            return await tus.create(fields, data)

    async def append(self, url: str, start: int) -> httpx.Response:
        async with Tus(self.service) as tus:
            length = {"Upload-Length": str(len(DATA))}
            return await tus.patch(url, start, in_pieces(DATA[start:], 1 << 16), length)

    async def offset(self, url: str) -> int:
        async with Tus(self.service) as tus:
            return await tus.offset(url)


class OfTheDraft:
    """An upload with the IETF draft."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def begin(self, data: bytes = b"") -> httpx.Response:
        async with self.service.client() as client:
            return await draft.create(client, data)

    async def append(self, url: str, start: int) -> httpx.Response:
        async with self.service.client() as client:
            body = in_pieces(DATA[start:], 1 << 16)
            return await draft.append(client, url, start, body, complete=True)

    async def offset(self, url: str) -> int:
        async with self.service.client() as client:
            return await draft.offset_of(client, url)


@pytest.fixture(params=[OfTus, OfTheDraft])
def protocol(request: pytest.FixtureRequest, service: Service) -> OfTus | OfTheDraft:
    made: OfTus | OfTheDraft = request.param(service)
    return made


@pytest.mark.trap("U4")
async def test_an_upload_that_fills_the_disk_goes_on_when_there_is_space(
    service: Service, disk: Path, protocol: Any
) -> None:
    url = (await protocol.begin(DATA[:1000])).headers["location"]
    filler = fill(disk, leave=SIZE // 3)

    answer = await protocol.append(url, 1000)
    offset = await protocol.offset(url)

    assert is_full(answer), answer.text
    assert 1000 <= offset < len(DATA)  # The bytes are kept, and take the space.
    assert await files(service) == []
    assert is_full(await protocol.append(url, offset))  # The same offset again.
    filler.unlink()
    offset = await protocol.offset(url)
    assert (await protocol.append(url, offset)).is_success
    [record] = await files(service)
    assert sha256(await bytes_of(service, record.id)) == sha256(DATA)


@pytest.mark.trap("U4")
async def test_on_a_full_disk_uploads_are_told_so_and_can_be_deleted(
    service: Service, disk: Path, tmp_path: Path, protocol: Any
) -> None:
    answers = [await protocol.begin(DATA[:100_000]) for _ in range(2)]
    begun = [answer.headers["location"] for answer in answers]
    fill(disk)
    others = [await protocol.begin() for _ in range(50)]
    assert is_full(others[-1])  # Not even the state of a new upload fits.

    assert is_full(await protocol.append(begun[0], 100_000))
    assert await protocol.offset(begun[0]) == 100_000
    async with service.client() as client:
        tus = {"Tus-Resumable": "1.0.0"} if isinstance(protocol, OfTus) else {}
        for url in begun:
            assert (await client.delete(url, headers=tus)).status_code == 204
    assert free(disk) > 0
    assert not {url.rpartition("/")[2] for url in begun} & draft.unfinished(tmp_path)


@pytest.mark.trap("U4")
async def test_a_chunk_that_has_a_checksum_is_not_kept_in_part(
    service: Service, disk: Path
) -> None:
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    async with Tus(service) as tus:
        url = await tus.upload(len(DATA))
        filler = fill(disk, leave=SIZE // 3)
        checked = {"Upload-Checksum": f"sha256 {digest}"}
        assert is_full(await tus.patch(url, 0, in_pieces(DATA, 1 << 16), checked))
        assert await tus.offset(url) == 0
        filler.unlink()
        assert (await tus.patch(url, 0, DATA, checked)).status_code == 204
    [record] = await files(service)
    assert sha256(await bytes_of(service, record.id)) == sha256(DATA)


async def test_an_upload_that_does_not_fit_is_refused_when_it_begins(
    service: Service, tmp_path: Path
) -> None:
    async with Tus(service) as tus:
        assert is_full(await tus.create({"Upload-Length": str(2 * SIZE)}))
    assert unfinished(tmp_path) == []


@pytest.mark.fault("G19")
async def test_uploads_are_deleted_and_expire_when_no_inode_is_left(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "data", inodes=400) as disk:
        service: Service = await serve(storage={"keep_free": 1}, upload={"expire_after": "1 h"})
        async with Tus(service) as tus, service.client() as client:
            url, whole, old = [await tus.upload(1000, body=b"x") for _ in range(3)]
            assert (await tus.patch(whole, 1, bytes(999))).status_code == 204
            begun = (await draft.create(client, b"x")).headers["location"]
            part = disk / "uploads" / f"{old.rpartition('/')[2]}.part"
            os.utime(part, (0, 0))
            take_inodes(disk)

            assert is_full(await tus.patch(url, 1, bytes(10)))
            for address in (url, whole):
                assert (await tus.delete(address)).status_code == 204
                take_inodes(disk)
            assert (await client.delete(begun)).status_code == 204
            take_inodes(disk)
            await service.in_server(service.app.state.uploads.sweep())
            assert not part.exists()
    assert await files(service) == []
