"""The IETF draft "Resumable Uploads for HTTP": state, limits, creation and offset."""

import random
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..service import Service
from ..storage.stored import bytes_of, files
from ..upload.uploads import sha256
from .draft import append, begin, create, is_problem, limits_of, offset_of, unfinished
from .tus import in_pieces, make_older

#: Not a single boolean of structured fields (RFC 9651, section 3.3.6).
NO_BOOLEAN = [
    "1",
    "true",
    "?",
    "?2",
    "?T",
    "?01",
    "",
    '"?1"',
    "(?1)",
    "?1, ?1",
    "?1;",
    "?1;A=1",
    "?1;a=b, ?1",
    "?1 ;a",
]
#: Not a single non-negative integer (section 3.3.1).
NO_LENGTH = ["-1", "+3", "1.0", "3.", "1e3", "0x3", "", '"3"', "3, 3", "3 3", "0" * 15 + "3", "?1"]


@pytest.mark.spec("draft-R6", "draft-R10", "draft-R12", "draft-A4", "draft-A5", "draft-A11")
async def test_a_careful_client_creates_an_empty_upload_and_appends_to_it(service: Service) -> None:
    data = random.randbytes(3 << 20)
    async with service.client() as client:
        created = await create(client, headers={"Upload-Length": str(len(data))})
        url = created.headers["location"]
        part = await append(client, url, 0, data[: 1 << 20])
        last = await append(client, url, 1 << 20, data[1 << 20 :], complete=True)

    assert (created.status_code, part.status_code, last.status_code) == (201, 204, 201)
    answers = [created, part, last]
    assert [answer.headers["upload-complete"] for answer in answers] == ["?0", "?0", "?1"]
    assert [answer.headers["upload-offset"] for answer in answers[:2]] == ["0", str(1 << 20)]
    assert limits_of(created)["max-size"] == 64 << 20
    record = last.json()
    assert (last.headers["location"], record["size"]) == (record["url"], len(data))
    assert sha256(await bytes_of(service, record["id"])) == sha256(data)


@pytest.mark.spec("draft-R1", "draft-R5", "draft-R10")
@pytest.mark.parametrize("path", ["/files", "/uploads", "/uploads/"])
async def test_an_upload_in_one_request_is_answered_as_any_other(
    service: Service, path: str
) -> None:
    data = random.randbytes(100_000)
    async with service.client() as client:
        plain = await client.post("/files", content=data)
        whole = await create(client, data, complete=True, path=path)
        chunked = await create(client, in_pieces(data, 9999), complete=True, path=path)

    assert "upload-complete" not in plain.headers
    for answer in (whole, chunked):
        assert (answer.status_code, answer.headers["upload-complete"]) == (201, "?1")
        record = answer.json()
        assert record.keys() == plain.json().keys()
        assert answer.headers["location"] == record["url"]
        assert sha256(await bytes_of(service, record["id"])) == sha256(data)


@pytest.mark.spec("draft-R12")
async def test_an_empty_body_that_is_complete_is_an_empty_file(service: Service) -> None:
    async with service.client() as client:
        at_once = await create(client, complete=True)
        url = await begin(client)
        later = await append(client, url, 0, complete=True)

    assert [at_once.json()["size"], later.json()["size"]] == [0, 0]
    assert len(await files(service)) == 2


@pytest.mark.spec("draft-U3")
async def test_a_malformed_upload_complete_is_as_good_as_none(service: Service) -> None:
    async with service.client() as client:
        for value in NO_BOOLEAN:
            field = {"Upload-Complete": value}
            plain = await client.post("/files", content=b"abc", headers=field)
            nothing = await client.post("/uploads", content=b"abc", headers=field)
            assert (plain.status_code, nothing.status_code) == (201, 400), value
            assert "upload-complete" not in plain.headers, value

        twice = [("Upload-Complete", "?0"), ("Upload-Complete", "?0")]
        assert (await client.post("/uploads", content=b"abc", headers=twice)).status_code == 400
    assert [record.size for record in await files(service)] == [3] * len(NO_BOOLEAN)


@pytest.mark.spec("draft-U3")
async def test_parameters_of_upload_complete_change_nothing(service: Service) -> None:
    async with service.client() as client:
        for value in (
            "?0;a=b",
            "?0; a",
            '?0;a=1.5;b="x; \\", ?1"',
            "?0;a=:AA==:;*b;c=@1;d=?1",
            '?0;a=%"%c3"',
        ):
            created = await create(client, b"abc", {"Upload-Complete": value})
            assert created.status_code == 201, value
            assert await offset_of(client, created.headers["location"]) == 3
    assert await files(service) == []


@pytest.mark.spec("draft-U4")
async def test_a_malformed_upload_length_is_as_good_as_none(service: Service) -> None:
    async with service.client() as client:
        for value in NO_LENGTH:
            url = await begin(client, b"a" * 4, {"Upload-Length": value})
            assert "upload-length" not in (await client.head(url)).headers, value


@pytest.mark.spec("draft-R7", "draft-O4", "draft-U4")
async def test_the_length_is_recorded_when_it_is_known(service: Service) -> None:
    async with service.client() as client:
        for value in ("6", "6;a=b", "006", "6; a"):
            url = await begin(client, b"abc", {"Upload-Length": value})
            assert (await client.head(url)).headers["upload-length"] == "6", value


@pytest.mark.spec("draft-U5", "draft-P2")
async def test_lengths_that_contradict_each_other_create_nothing(
    service: Service, tmp_path: Path
) -> None:
    cases: list[tuple[bytes, bool, str]] = [
        (b"abc", True, "4"), (b"abc", True, "2"), (b"abc", False, "2"), (b"", True, "1")
    ]  # fmt: skip
    async with service.client() as client:
        for body, complete, length in cases:
            field = {"Upload-Length": length}
            response = await create(client, body, field, complete=complete)
            assert response.status_code == 400, (body, complete, length)
            assert is_problem(response, "inconsistent-upload-length")
            assert "location" not in response.headers
    assert await files(service) == []
    assert unfinished(tmp_path) == set()


@pytest.mark.spec("draft-U5")
async def test_a_body_of_unknown_length_is_held_to_the_declared_one(
    service: Service, tmp_path: Path
) -> None:
    async with service.client() as client:
        for length in ("5", "7"):
            body = in_pieces(b"abcdef", 2)
            response = await create(client, body, {"Upload-Length": length}, complete=True)
            assert response.status_code == 400, length
    assert await files(service) == []
    assert unfinished(tmp_path) == set()


@pytest.mark.spec("draft-U6")
async def test_a_length_cannot_change_from_one_request_to_the_next(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc", {"Upload-Length": "6"})
        other = await append(client, url, 3, b"d", {"Upload-Length": "7"})
        implied = await append(client, url, 3, b"de", complete=True)  # Together 5 bytes.
        assert [other.status_code, implied.status_code] == [400, 400]
        assert await offset_of(client, url) == 3

        same = await append(client, url, 3, b"def", {"Upload-Length": "6"}, complete=True)
        assert same.status_code == 201
    assert await bytes_of(service, same.json()["id"]) == b"abcdef"


@pytest.mark.spec("draft-U7")
async def test_all_bytes_are_not_a_complete_upload_until_the_client_says_so(
    service: Service,
) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc", {"Upload-Length": "3"})

        assert await offset_of(client, url) == 3
        assert await files(service) == []
        assert (await append(client, url, 3, complete=True)).status_code == 201
    assert [record.size for record in await files(service)] == [3]


@pytest.mark.fault("F12")
@pytest.mark.spec("draft-U8", "draft-U10", "draft-U13")
async def test_limits_are_announced_before_an_upload_and_are_those_that_hold(serve: Any) -> None:
    service: Service = await serve(upload={"max_size": 1000, "expire_after": "1 h"})
    async with service.client() as client:
        for path in ("/files", "/uploads"):
            options = await client.options(path)
            created = await create(client, headers={"Upload-Length": "1000"}, path=path)
            whole = await create(client, b"x" * 1000, complete=True, path=path)

            assert options.status_code == 200
            assert limits_of(options) == limits_of(created)
            assert limits_of(created) == {"max-size": 1000, "max-age": 3600}
            assert [created.status_code, whole.status_code] == [201, 201]


@pytest.mark.spec("draft-U9")
async def test_limits_never_become_tighter(serve: Any) -> None:
    service: Service = await serve(upload={"expire_after": "1 h"})
    async with service.client() as client:
        asked = time.monotonic()
        created = await create(client)
        end = asked + limits_of(created)["max-age"]
        url = created.headers["location"]
        for offset in range(3):
            await append(client, url, offset, b"x")
            limits = limits_of(await client.head(url))
            assert limits["max-size"] >= limits_of(created)["max-size"]
            assert time.monotonic() + limits["max-age"] >= end - 1  # Whole seconds.


@pytest.mark.spec("draft-O5", "draft-U9")
async def test_the_age_among_the_limits_is_the_time_that_is_left(
    service: Service, tmp_path: Path
) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        make_older(service, tmp_path, url, 1000)

        for _ in range(2):  # HEAD does not extend the lifetime.
            assert limits_of(await client.head(url))["max-age"] <= 86_400 - 1000


@pytest.mark.spec("draft-U14")
@pytest.mark.parametrize("complete", [False, True])
async def test_what_is_too_large_is_refused_with_the_limits(
    serve: Any, tmp_path: Path, complete: bool
) -> None:
    service: Service = await serve(upload={"max_size": 1000})
    async with service.client() as client:
        answers = [
            await create(client, headers={"Upload-Length": "1001"}),
            await create(client, headers={"Upload-Length": "9" * 15}),
            await create(client, b"x" * 1001, complete=complete),
            await create(client, in_pieces(b"x" * 1001, 300), complete=complete),
        ]

    assert [answer.status_code for answer in answers] == [413] * 4
    assert [limits_of(answer)["max-size"] for answer in answers] == [1000] * 4
    assert await files(service) == []
    assert unfinished(tmp_path) == set()


@pytest.mark.spec("draft-O1", "draft-O2", "draft-O3", "draft-O4", "draft-O5", "draft-O6")
async def test_an_unfinished_upload_tells_all_of_its_state(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc", {"Upload-Length": "6"})
        for method in ("HEAD", "GET"):
            response = await client.request(method, url)

            assert (response.status_code, response.content) == (204, b"")
            assert response.headers["upload-offset"] == "3"
            assert response.headers["upload-complete"] == "?0"
            assert response.headers["upload-length"] == "6"
            assert response.headers["cache-control"] == "no-store"
            assert limits_of(response)["max-size"] == 64 << 20
            assert 86_000 < limits_of(response)["max-age"] <= 86_400


@pytest.mark.spec("draft-O1", "draft-O2", "draft-O3", "draft-O4", "draft-O7")
@pytest.mark.parametrize("method", ["HEAD", pytest.param("GET", marks=pytest.mark.fault("F12"))])
async def test_a_complete_upload_tells_its_state_and_where_its_file_is(
    service: Service, method: str
) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        record = (await append(client, url, 3, complete=True)).json()
        asked = await client.request(method, url)

    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["upload-complete"] == "?1"
    assert (asked.headers["upload-offset"], asked.headers["upload-length"]) == ("3", "3")
    assert asked.headers["content-location"] == urlsplit(record["url"]).path
    assert "location" not in asked.headers


@pytest.mark.spec("draft-O7", "draft-D3")
async def test_no_address_of_an_upload_is_a_redirect(service: Service) -> None:
    unknown = "/00000000-0000-7000-8000-000000000000"
    async with service.client() as client:
        for name in ("", "/", unknown, f"{unknown}/", "/x", "/x/"):
            for method in ("HEAD", "GET", "PATCH", "DELETE", "POST"):
                response = await client.request(method, f"/uploads{name}")
                assert response.status_code in (400, 404, 405, 415), (method, name)
                assert "location" not in response.headers
                assert "upload-offset" not in response.headers
