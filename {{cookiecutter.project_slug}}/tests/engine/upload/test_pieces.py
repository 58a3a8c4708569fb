"""Pieces of a file in the formats of several clients: never stored as the whole file."""

from typing import Any

import pytest

from ..service import Service
from ..storage.stored import files
from .forms import FORM, field, file, form
from .uploads import left_behind

RANGE = {"Content-Range": "bytes 0-2/1000"}
PIECE = form(file("a", b"abc"))
DROPZONE = {"dzuuid": "x", "dzchunkindex": "0", "dztotalfilesize": "9", "dztotalchunkcount": "3"}
RESUMABLE = {"resumableChunkNumber": "1", "resumableTotalChunks": "3", "resumableTotalSize": "9"}
FLOW = {"flowChunkNumber": "3", "flowTotalChunks": "3", "flowFilename": "a"}
FINE = {"qqpartindex": "0", "qqtotalparts": "12", "qqfilename": "a"}
PLUPLOAD = {"name": "a", "chunk": "0", "chunks": "3"}


async def refused(service: Service, method: str, path: str, **request: Any) -> None:
    """Assert that a request is refused as a piece."""
    async with service.client() as client:
        response = await client.request(method, path, **request)

    assert response.status_code == 400
    assert response.json()["detail"].endswith("declares a part of a whole.")


@pytest.mark.fault("F4")
@pytest.mark.parametrize("place", ["Content-Range", "X-Content-Range"])
async def test_a_body_with_a_place_in_a_whole_is_not_stored_as_the_whole(
    service: Service, tmp_path: Any, place: str
) -> None:
    await refused(service, "POST", "/files", content=b"abc", headers={place: "bytes 0-2/1000"})

    assert await files(service) == []
    assert left_behind(tmp_path) == []


@pytest.mark.fault("F4")
async def test_no_range_makes_a_form_a_piece(service: Service) -> None:
    await refused(service, "POST", "/files", content=PIECE, headers=RANGE | {"Content-Type": FORM})
    within = form(file("a", b"abc", "Content-Range: bytes 0-2/1000"))
    await refused(service, "POST", "/files", content=within, headers={"Content-Type": FORM})

    assert await files(service) == []


@pytest.mark.fault("F4")
async def test_no_range_of_rows_is_taken_in(service: Service) -> None:
    headers = RANGE | {"Content-Type": "application/jsonl"}
    row = b'{"sensor": "a", "value": 1}\n'

    await refused(service, "POST", "/ingest/readings", content=row, headers=headers)


@pytest.mark.fault("F4")
@pytest.mark.parametrize("fields", [DROPZONE, RESUMABLE, FLOW, FINE, PLUPLOAD])
async def test_a_form_that_counts_pieces_is_not_stored(
    service: Service, tmp_path: Any, fields: dict[str, str]
) -> None:
    parts = [field(name, value) for name, value in fields.items()]
    for body in (form(*parts, file("a", b"abc")), form(file("a", b"abc"), *parts)):
        await refused(service, "POST", "/files", content=body, headers={"Content-Type": FORM})

    assert await files(service) == []
    assert left_behind(tmp_path) == []


@pytest.mark.fault("F4")
@pytest.mark.parametrize("query", [RESUMABLE, FLOW, FINE])
async def test_a_body_whose_address_counts_pieces_is_not_stored(
    service: Service, query: dict[str, str]
) -> None:
    await refused(service, "POST", "/files", params=query, content=b"abc")
    headers = {"Content-Type": FORM}
    await refused(service, "POST", "/files", params=query, content=PIECE, headers=headers)

    assert await files(service) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"dzchunkindex": "0", "dztotalchunkcount": "1"},
        {"resumableChunkNumber": "1", "resumableTotalChunks": "01"},
        {"qqtotalparts": ""},
        {"qqtotalparts": "many"},
        {"flowTotalChunks": "0"},
        {"chunk": "2", "chunks": "3"},
        {"name": "a", "chunks": "3"},
        {"name": "a", "chunk": "0", "chunks": "1"},
    ],
)
async def test_a_form_that_is_a_whole_is_stored_whatever_it_counts(
    service: Service, fields: dict[str, str]
) -> None:
    body = form(*[field(name, value) for name, value in fields.items()], file("a", b"abc"))
    async with service.client() as client:
        response = await client.post("/files", content=body, headers={"Content-Type": FORM})

    assert response.status_code == 201
    assert [record.metadata for record in await files(service)] == [fields]
