"""The IETF draft "Resumable Uploads for HTTP": differences between its versions, and forms."""

from typing import Any

import pytest

from ..service import Service
from ..storage.stored import bytes_of, files
from .draft import append, bare, begin, offset_of, read_heads

INTEROP = "Upload-Draft-Interop-Version"
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nabc\r\n'
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="b.txt"\r\n\r\ndefg\r\n'
    b"--x--\r\n"
)
FORM_TYPE = {"Content-Type": 'Multipart/Form-Data; boundary="x"'}


@pytest.mark.fault("F12")
@pytest.mark.spec("draft-R2", "draft-I2", "draft-I3")
@pytest.mark.parametrize("version", ["7", "9", "10"])
async def test_later_versions_are_told_their_address_too(serve: Any, version: str) -> None:
    service: Service = await serve(upload={"interim_responses": True})
    start = bare("POST", f"{service.url}/files", 3, "Upload-Complete: ?1", f"{INTEROP}: {version}")
    async with service.raw_connection() as peer:
        await peer.send(start + b"abc")
        heads = await read_heads(peer)

    assert [head.status for head in heads] == [104, 201]
    assert heads[0].headers[INTEROP.lower()] == version
    assert heads[0].headers["location"].startswith(f"{service.url}/uploads/")


@pytest.mark.fault("F12")
@pytest.mark.parametrize("version", ["6", "3"])
@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("HEAD", {"Upload-Offset": "3"}),
        ("HEAD", {"Upload-Complete": "?1"}),
        ("HEAD", {"Upload-Length": "3"}),
        ("DELETE", {"Upload-Offset": "3"}),
        ("DELETE", {"Upload-Complete": "?0"}),
    ],
)
async def test_an_old_version_refuses_the_fields_of_an_append_in_other_requests(
    service: Service, version: str, method: str, field: dict[str, str]
) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        headers = {INTEROP: version, **field}
        assert (await client.request(method, url, headers=headers)).status_code == 400
        assert await offset_of(client, url) == 3  # The upload still exists.


@pytest.mark.parametrize("version", [{INTEROP: "7"}, {INTEROP: "8"}, {INTEROP: "10"}, {}])
@pytest.mark.parametrize("method", ["HEAD", "GET", "DELETE"])
async def test_a_later_version_ignores_them(
    service: Service, version: dict[str, str], method: str
) -> None:
    fields = {"Upload-Offset": "9", "Upload-Complete": "?1", "Upload-Length": "9"}
    async with service.client() as client:
        url = await begin(client, b"abc")
        response = await client.request(method, url, headers={**version, **fields})

    assert response.status_code == 204
    assert response.headers.get("upload-offset", "3") == "3"


@pytest.mark.spec("draft-U3", "draft-R5")
@pytest.mark.fault("F12")
async def test_a_form_that_is_all_there_is_stored_as_any_form(service: Service) -> None:
    async with service.client() as client:
        marked = {**FORM_TYPE, "Upload-Complete": "?1"}
        response = await client.post("/files", content=FORM, headers=marked)
        records = response.json()

    assert response.status_code == 201
    assert [record["filename"] for record in records] == ["a.txt", "b.txt"]
    assert [await bytes_of(service, record["id"]) for record in records] == [b"abc", b"defg"]
    assert "upload-complete" not in response.headers


async def test_a_form_in_several_requests_is_no_upload(service: Service) -> None:
    async with service.client() as client:
        marked = {**FORM_TYPE, "Upload-Complete": "?0"}
        response = await client.post("/files", content=FORM, headers=marked)

    assert response.status_code == 415
    assert await files(service) == []


@pytest.mark.fault("F12")
@pytest.mark.spec("draft-U10")
@pytest.mark.parametrize("path", ["/files", "/uploads", "/uploads/", "/uploads/any"])
async def test_options_is_answered_with_200_and_the_limits(service: Service, path: str) -> None:
    async with service.client() as client:
        response = await client.options(path)

    assert (response.status_code, response.content) == (200, b"")
    assert "max-size=" in response.headers["upload-limit"]
    assert "OPTIONS" in response.headers["allow"]


async def test_a_chain_of_versions_works_on_one_upload(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"a", {INTEROP: "6"})
        for offset, version in enumerate(("7", "8", "9", "10"), start=1):
            last = await append(client, url, offset, b"b", {INTEROP: version})
            assert last.status_code == 204
        last = await append(client, url, 5, complete=True)
    assert await bytes_of(service, last.json()["id"]) == b"abbbb"
