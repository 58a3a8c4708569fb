"""The IETF draft "Resumable Uploads for HTTP": append, cancel, concurrency and problem types."""

import re
from pathlib import Path
from typing import Any

import pytest

from ..service import Service
from ..storage.stored import bytes_of, files
from .draft import (
    append,
    bare_append,
    begin,
    create,
    is_problem,
    limits_of,
    offset_of,
    read_heads,
    unfinished,
)
from .tus import Tus, in_pieces

#: Neither one integer nor one boolean of structured fields (RFC 9651, section 3.3).
NO_INTEGER = ["-3", "+3", "3.0", "3.", "0x3", "3e0", "", '"3"', "3, 3", "3 3", "0" * 15 + "3", "?1"]
NO_BOOLEAN = ["1", "?2", "true", "?", "", "?1, ?1", "?1;", "?1;A", "?1;a=b, ?1"]


@pytest.mark.spec("draft-A1")
async def test_only_a_partial_upload_is_appended(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        for offered in ("application/octet-stream", "application/partial-uploads", ""):
            response = await append(client, url, 3, b"def", {"Content-Type": offered})
            assert response.status_code == 415, offered
            assert "application/partial-upload" in response.headers["accept-patch"].split(", ")
        assert await offset_of(client, url) == 3

        for offered in ("Application/Partial-Upload", "application/partial-upload; a=b"):
            response = await append(client, url, 3, b"", {"Content-Type": offered})
            assert response.status_code == 204, offered


@pytest.mark.spec("draft-A3", "draft-P1", "draft-A11")
async def test_a_wrong_offset_is_told_the_right_one(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        for offset in (0, 2, 4, 10**14):
            response = await append(client, url, offset, b"def", complete=True)
            assert response.status_code == 409, offset
            assert response.headers["upload-offset"] == "3"
            assert response.headers["upload-complete"] == "?0"
            name = "mismatching-upload-offset"
            assert is_problem(response, name, expected_offset=3, provided_offset=offset)
        assert await offset_of(client, url) == 3


@pytest.mark.spec("draft-U2")
async def test_a_malformed_upload_offset_is_as_good_as_none(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        for value in (*NO_INTEGER, "3;", "3;A", "3;a=b, 3"):
            response = await append(client, url, 3, b"def", {"Upload-Offset": value})
            assert response.status_code == 400, value
        assert await offset_of(client, url) == 3


@pytest.mark.spec("draft-U2", "draft-U3")
async def test_parameters_of_the_fields_of_an_append_change_nothing(service: Service) -> None:
    fields = {"Upload-Offset": "003;a", "Upload-Complete": "?1; a=b", "Upload-Length": "6;c=?0"}
    async with service.client() as client:
        url = await begin(client, b"abc")
        response = await append(client, url, 3, b"def", fields)

    assert await bytes_of(service, response.json()["id"]) == b"abcdef"


@pytest.mark.spec("draft-U3")
async def test_a_malformed_upload_complete_completes_nothing(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        for value in NO_BOOLEAN:
            response = await append(client, url, 3, b"def", {"Upload-Complete": value})
            assert response.status_code == 400, value
        assert await offset_of(client, url) == 3


@pytest.mark.spec("draft-U5", "draft-U6", "draft-P2")
async def test_an_append_whose_lengths_disagree_is_a_problem(service: Service) -> None:
    cases = [("5", False), ("7", True), ("5", True), ("2", False)]
    async with service.client() as client:
        for length, complete in cases:
            url = await begin(client, b"abc")
            field = {"Upload-Length": length}
            response = await append(client, url, 3, b"def", field, complete=complete)
            assert response.status_code == 400, (length, complete)
            assert response.headers["upload-complete"] == "?0"
            assert is_problem(response, "inconsistent-upload-length")
    assert await files(service) == []


@pytest.mark.spec("draft-A7")
async def test_an_append_may_tell_the_length(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        await append(client, url, 3, b"def", {"Upload-Length": "9"})

        assert (await client.head(url)).headers["upload-length"] == "9"


@pytest.mark.spec("draft-A8", "draft-A9", "draft-P2")
async def test_more_bytes_than_the_length_end_the_upload(service: Service, tmp_path: Path) -> None:
    body = b"x" * 2000
    async with service.client() as client:
        for declared, complete in ((True, False), (False, False), (False, True)):
            url = await begin(client, b"abc", {"Upload-Length": "1000"})
            content: Any = body if declared else in_pieces(body, 500)
            answers = [
                await append(client, url, 3, content, complete=complete),
                await append(client, url, 3, b"d"),
                await client.head(url),
            ]
            assert [answer.status_code for answer in answers] == [400, 404, 404]
            assert is_problem(answers[0], "inconsistent-upload-length")
    assert await files(service) == []
    assert unfinished(tmp_path) == set()


@pytest.mark.spec("draft-U14")
async def test_an_upload_of_unknown_length_ends_at_the_limit(serve: Any) -> None:
    service: Service = await serve(upload={"max_size": 1000})
    body = b"x" * 600
    async with service.client() as client:
        for declared in (True, False):
            url = await begin(client, body)
            content: Any = body if declared else in_pieces(body, 100)
            response = await append(client, url, 600, content, complete=True)
            assert response.status_code == 413, declared
            assert limits_of(response)["max-size"] == 1000
            assert await offset_of(client, url) == 600
    assert await files(service) == []


@pytest.mark.spec("draft-C2")
async def test_an_offset_counts_the_bytes_and_not_their_framing(service: Service) -> None:
    async with service.client() as client, service.raw_connection() as peer:
        url = await begin(client, b"abc")
        await peer.send(bare_append(url, 3, None, "Upload-Complete: ?0", "Trailer: X-Sum"))
        await peer.send(b"2;name=value\r\nde\r\n1\r\nf\r\n00\r\nX-Sum: 1\r\n\r\n")
        [answer] = await read_heads(peer)

        assert (answer.status, answer.headers["upload-offset"]) == (204, "6")
        last = await append(client, url, 6, complete=True)
    assert await bytes_of(service, last.json()["id"]) == b"abcdef"


@pytest.mark.spec("draft-A6")
async def test_a_client_that_missed_the_last_answer_gets_it_again(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        last = await append(client, url, 3, b"def", complete=True)
        again = await append(client, url, 6, complete=True)
        more = await append(client, url, 6, b"ghi", complete=True)

    assert (again.status_code, again.headers["upload-complete"]) == (201, "?1")
    assert again.json() == last.json()
    assert more.status_code in (400, 409)
    assert await bytes_of(service, last.json()["id"]) == b"abcdef"


@pytest.mark.spec("draft-D1", "draft-D3")
async def test_a_cancelled_upload_is_gone(service: Service, tmp_path: Path) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        answers = [
            await client.delete(url),
            await client.head(url),
            await append(client, url, 3, b"def", complete=True),
            await client.delete(url),
        ]

    assert [answer.status_code for answer in answers] == [204, 404, 404, 404]
    assert not any("upload-offset" in answer.headers for answer in answers)
    assert unfinished(tmp_path) == set()


@pytest.mark.spec("draft-D1")
async def test_forgetting_a_complete_upload_keeps_its_file(service: Service) -> None:
    async with service.client() as client:
        url = await begin(client, b"abc")
        record = (await append(client, url, 3, complete=True)).json()

        assert (await client.delete(url)).status_code == 204
        assert (await client.head(url)).status_code == 404
    assert await bytes_of(service, record["id"]) == b"abc"


async def test_both_protocols_work_on_one_upload(service: Service) -> None:
    async with Tus(service) as tus, service.client() as client:
        url = await tus.upload(9)
        assert (await client.head(url)).headers["upload-length"] == "9"
        assert (await append(client, url, 0, b"abc")).status_code == 204
        assert await tus.offset(url) == 3
        assert (await tus.patch(url, 3, b"def")).status_code == 204
        assert await offset_of(client, url) == 6
        last = await append(client, url, 6, b"ghi", complete=True)

        assert await tus.offset(url) == 9
    assert await bytes_of(service, last.json()["id"]) == b"abcdefghi"


async def test_a_part_of_a_tus_upload_becomes_no_file_by_the_draft_either(service: Service) -> None:
    async with Tus(service) as tus, service.client() as client:
        url = await tus.upload(3, {"Upload-Concat": "partial"})
        await append(client, url, 0, b"abc", complete=True)

        assert await tus.offset(url) in (0, 3)
    assert await files(service) == []


@pytest.mark.spec("draft-C1", "draft-R13")
async def test_a_content_coding_is_refused_and_not_forgotten(service: Service) -> None:
    async with service.client() as client:
        for complete in (False, True):
            field = {"Content-Encoding": "gzip"}
            response = await create(client, b"abc", field, complete=complete)
            assert response.status_code == 415
            assert response.headers["accept-encoding"] == "identity"

        url = await begin(client, b"abc")
        response = await append(client, url, 3, b"def", {"Content-Encoding": "gzip"})
        assert response.status_code == 415
        assert await offset_of(client, url) == 3


@pytest.mark.spec("draft-S2", "draft-S3")
async def test_an_address_is_an_id_that_nobody_can_guess(service: Service) -> None:
    async with service.client() as client:
        urls = [await begin(client) for _ in range(10)]

    pattern = re.escape(f"{service.url}/uploads/") + r"[0-9a-f]{8}-[0-9a-f]{4}-7([0-9a-f]{3})-"
    matches = [re.fullmatch(pattern + r"([0-9a-f]{4}-[0-9a-f]{12})", url) for url in urls]
    assert len({match[2] for match in matches if match}) == 10


@pytest.mark.spec("draft-S4")
async def test_what_a_client_says_of_its_file_is_never_a_path_or_a_header(
    service: Service, tmp_path: Path
) -> None:
    said = {"Content-Disposition": 'inline; filename="../../evil.png"', "Content-Type": "a b c"}
    async with service.client() as client:
        url = await begin(client, b"abc", said)
        record = (await append(client, url, 3, complete=True)).json()

    assert (record["filename"], record["content_type"]) == ("evil.png", "image/png")
    assert {path.name for path in tmp_path.iterdir()} <= {"data"}
