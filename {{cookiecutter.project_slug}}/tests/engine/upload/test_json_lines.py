"""JSON Lines: a row is a line, and only LF ends it."""

import json
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.upload import IngestRouter
from {{cookiecutter.package_name}}.engine.upload.rows import ROW_LIMIT

from ..service import Service

JSONL = {"Content-Type": "application/jsonl"}


@pytest.fixture
def rows() -> list[Any]:
    return []


@pytest.fixture
async def service(serve: Any, rows: list[Any]) -> Service:
    router = IngestRouter(prefix="/ingest")

    @router.ingest("/anything")
    async def take(taken: list[Any]) -> None:
        """Keep the rows."""
        rows.extend(taken)

    started: Service = await serve(router)
    return started


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"a":1}\r\n\r\n[2]\r\n', [{"a": 1}, [2]]),
        ('\ufeff{"a":1}\n2', [{"a": 1}, 2]),
        ('"\u2028\u2029\x85\x7f"\n"\\u0000"\n', ["\u2028\u2029\x85\x7f", "\0"]),
        ('{"a":\r1}\n', [{"a": 1}]),
        ('\n \t\r\n"x"\n', ["x"]),
        ('"ä😀"\n', ["ä😀"]),
    ],
)
async def test_lines_are_rows(
    service: Service, rows: list[Any], text: str, wanted: list[Any]
) -> None:
    async with service.client() as client:
        response = await client.post("/ingest/anything", content=text.encode(), headers=JSONL)

    assert rows == wanted
    assert response.json() == {"accepted": len(wanted), "rejected": 0, "errors": []}


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        pytest.param(b'{"a":1}\r{"a":2}\r', "carriage return", marks=pytest.mark.fault("F3")),
        pytest.param(b'"\0"', "NUL", marks=pytest.mark.fault("F3")),
        pytest.param(b'"\xff"', "not UTF-8", marks=pytest.mark.fault("F3")),
        pytest.param(b"\xef\xbb\xbf2", "byte order mark", marks=pytest.mark.fault("F3")),
        pytest.param(b"\x0c", "not valid JSON", marks=pytest.mark.fault("F3")),
        (b"1 2", "not valid JSON"),
        (b"NaN x", "not valid JSON"),
        (b"{", "not valid JSON"),
    ],
)
async def test_a_bad_line_is_told_why_and_costs_no_other(
    service: Service, rows: list[Any], line: bytes, detail: str
) -> None:
    async with service.client() as client:
        body = b"1\n" + line + b"\n3\n"
        report = (await client.post("/ingest/anything", content=body, headers=JSONL)).json()

    assert rows == [1, 3]
    assert [error["line"] for error in report["errors"]] == [2]
    assert detail in report["errors"][0]["detail"]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.fault("F3")
async def test_a_body_in_utf_16_is_told_so(service: Service, rows: list[Any], coding: str) -> None:
    body = (json.dumps({"a": 1}) + "\n").encode(coding) * 3
    async with service.client() as client:
        response = await client.post("/ingest/anything", content=body, headers=JSONL)

    assert (response.status_code, rows) == (400, [])
    assert "UTF-16" in response.json()["detail"]


@pytest.mark.fault("F3")
@pytest.mark.slow
async def test_lines_that_end_with_cr_alone_are_told_of_at_the_limit_of_a_row(
    service: Service, rows: list[Any]
) -> None:
    line = b'{"a":1}\r'
    async with service.raw_connection() as peer:
        head = "POST /ingest/anything HTTP/1.1\r\nHost: x\r\nContent-Type: application/jsonl\r\n"
        await peer.send(f"{head}Content-Length: {2 * ROW_LIMIT}\r\n\r\n".encode())
        await peer.send(line * (ROW_LIMIT // len(line)) + line)
        assert b" 413 " in await peer.read_head()
        assert b"carriage return" in await peer.read_to_end()
    assert rows == []
