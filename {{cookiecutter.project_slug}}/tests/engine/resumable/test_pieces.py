"""`Content-Range` is refused: the offset has a header in each protocol."""

import pytest

from ..service import Service
from ..storage.stored import files
from .draft import append, begin, create, offset_of
from .tus import Tus

RANGE = {"Content-Range": "bytes 3-5/6"}


@pytest.mark.fault("F4")
@pytest.mark.parametrize("path", ["/files", "/uploads"])
@pytest.mark.parametrize("complete", [True, False])
async def test_no_range_begins_an_upload(service: Service, path: str, complete: bool) -> None:
    async with service.client() as client:
        response = await create(client, b"abc", RANGE, complete=complete, path=path)

    assert response.status_code == 400
    assert "location" not in response.headers
    assert await files(service) == []


@pytest.mark.fault("F4")
async def test_a_range_appends_nothing_and_the_upload_goes_on_without_it(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        refused = await append(client, url, 3, b"def", RANGE, complete=True)
        offset = await offset_of(client, url)
        finished = await append(client, url, 3, b"def", complete=True)

    assert (refused.status_code, offset) == (400, 3)
    assert finished.json()["size"] == 6


@pytest.mark.fault("F4")
async def test_tus_takes_no_range_either(service: Service) -> None:
    async with Tus(service) as tus:
        created = await tus.create(RANGE | {"Upload-Length": "6"})
        url = await tus.upload(6, body=b"abc")
        refused = await tus.patch(url, 3, b"def", RANGE)
        offset = await tus.offset(url)
        finished = await tus.patch(url, 3, b"def")

    assert [created.status_code, refused.status_code, finished.status_code] == [400, 400, 204]
    assert offset == 3
    assert [record.size for record in await files(service)] == [6]
