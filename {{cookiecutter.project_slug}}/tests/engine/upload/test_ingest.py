"""Ingest: rows are validated as they arrive, and accepted rows have been consumed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from pydantic import BaseModel, field_validator

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.kernel.exchange import exchange_of
from {{cookiecutter.package_name}}.engine.upload import IngestRouter
from {{cookiecutter.package_name}}.engine.upload.rows import BATCH_ROWS, ROW_LIMIT
from {{cookiecutter.package_name}}.ingest import latest

from ..peer import PATIENCE
from ..service import SOAK, Service, ServiceProcess, resolved

JSONL = {"Content-Type": "application/jsonl"}
CSV = {"Content-Type": "text/csv"}
ROW = b'{"sensor":"s","value":1}\n'
FAILING = ROW * BATCH_ROWS + ROW.replace(b"1", b"2")


class Row(BaseModel):
    sensor: str
    value: int

    @field_validator("value")
    @classmethod
    def _is_small(cls, value: int) -> int:
        if value > 1000:
            raise ValueError(f"secret {value}")
        return value


class Sink:
    """A consumer that records its rows, and fails or waits as a test asks."""

    def __init__(self) -> None:
        self.router = IngestRouter(prefix="/ingest")
        self.rows: list[Row] = []
        self.taken = asyncio.Event()
        self.ahead = 0
        self.router.ingest("/sink")(self.consume)

    async def consume(self, rows: list[Row], request: Request, then: str = "") -> None:
        """Take rows; this is the documentation."""
        if then == "refuse":
            raise Problem(409, "not now")
        if then == "fail" and rows[-1].value == 2:
            raise RuntimeError("secret 2")
        self.rows += rows
        self.taken.set()
        for _ in range(5):
            await asyncio.sleep(0)  # A service that reads ahead would do so now.
        unread = exchange_of(request.scope).bytes_in - len(ROW) * len(self.rows)
        self.ahead = max(self.ahead, unread)


def head(target: str, length: int) -> bytes:
    line = f"POST /ingest/{target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/jsonl"
    return f"{line}\r\nContent-Length: {length}\r\n\r\n".encode()


def where(report: Any) -> list[tuple[int, str]]:
    return [(error["line"], error["pointer"]) for error in report["errors"]]


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    latest.clear()


async def test_the_answer_tells_what_became_of_the_rows_without_them(serve: Any) -> None:
    sink = Sink()
    service: Service = await serve(sink.router)
    body = ROW + b'{"sensor":"s","value":"secret"}\n\n{secret\n{"value":1001}\n'
    body += b"{}\n" * 900 + ROW[:-1]
    async with service.client() as client:
        response = await client.post("/ingest/sink", content=body, headers=JSONL)

    report = response.json()
    assert (response.status_code, report["accepted"], report["rejected"]) == (200, 2, 903)
    assert where(report)[:4] == [(2, "/value"), (4, ""), (5, "/sensor"), (5, "/value")]
    assert len(report["errors"]) == 100
    assert "secret" not in response.text
    assert sink.rows == [Row(sensor="s", value=1)] * 2
    assert await service.outcome_of("POST /ingest/sink") == "complete"


async def test_csv_is_taken_as_spreadsheets_write_it(service: Service) -> None:
    body = (
        b'\xef\xbb\xbf"sensor",value\r\n'
        b'"two\r\nlines, and ""quotes""",1.5\r\n'
        b'\r\n5" pipe,2\r\nx\r\nx,y\r\n\xff,3\r\n"a"b,4\r\nlast,5'
    )
    async with service.client() as client:
        response = await client.post("/ingest/readings", content=body, headers=CSV)

    assert [row.sensor for row in latest] == ['two\r\nlines, and "quotes"', '5" pipe', "last"]
    assert [row.value for row in latest] == [1.5, 2, 5]
    assert where(response.json()) == [(6, ""), (7, "/value"), (8, ""), (9, "")]


@pytest.mark.parametrize(
    ("target", "headers", "body", "status"),
    [
        ("readings", {"Content-Type": "application/json"}, ROW, 415),
        ("readings", {"Content-Type": "text/csv; charset=utf-16"}, ROW, 415),
        ("readings", JSONL | {"Content-Encoding": "gzip"}, ROW, 415),
        ("readings", CSV, b"a,a\n1,2\n", 400),
        ("readings?unknown=some", JSONL, ROW, 200),
        ("nothing", JSONL, ROW, 404),
        ("readings", {"Content-Type": "application/x-ndjson; charset=UTF-8"}, ROW, 200),
        ("readings", CSV, b"", 200),
    ],
)
async def test_nothing_but_a_body_of_rows_is_taken(
    service: Service, target: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    async with service.client() as client:
        response = await client.post(f"/ingest/{target}", content=body, headers=headers)

    assert response.status_code == status


@pytest.mark.parametrize("content", [JSONL, CSV])
@pytest.mark.bound("H13")
async def test_a_row_that_is_too_long_ends_the_request_and_keeps_the_rows_before_it(
    service: Service, content: dict[str, str]
) -> None:
    body = b'sensor,value\ns,1\n"' + b"x\n" * ROW_LIMIT
    if content is JSONL:
        body = ROW + b'{"sensor":"' + b"x" * (2 * ROW_LIMIT)
    async with service.client() as client:
        response = await client.post("/ingest/readings", content=body, headers=content)

    assert (response.status_code, len(latest)) == (413, 1)
    if response.headers["content-type"] == "application/problem+json":  # Otherwise only `detail`.
        assert (response.json()["accepted"], response.json()["limit"]) == (1, ROW_LIMIT)


async def test_a_consumer_that_fails_never_looks_like_success(serve: Any) -> None:
    sink = Sink()
    service: Service = await serve(sink.router)
    async with service.client() as client:
        failed = await client.post("/ingest/sink?then=fail", content=FAILING, headers=JSONL)
        refused = await client.post("/ingest/sink?then=refuse", content=FAILING, headers=JSONL)

    assert (failed.status_code, refused.status_code) == (500, 409)
    assert "secret" not in failed.text
    assert await service.outcome_of("POST /ingest/sink") == "server_error"
    if refused.headers["content-type"] == "application/problem+json":
        assert failed.json()["accepted"] == len(sink.rows) > 0
        assert refused.json()["accepted"] == 0


async def test_a_client_that_leaves_leaves_what_was_taken(serve: Any) -> None:
    sink = Sink()
    service: Service = await serve(sink.router, streaming={"idle_timeout": PATIENCE})
    async with service.raw_connection() as peer:
        await peer.send(head("sink", 1000) + ROW * 2)
        await service.in_server(asyncio.wait_for(sink.taken.wait(), PATIENCE))
        peer.reset()
        assert await service.outcome_of("POST /ingest/sink") == "client_abort"
    assert len(sink.rows) == 2


@pytest.mark.slow
async def test_the_body_is_read_on_when_the_consumer_has_returned(serve: Any) -> None:
    sink = Sink()
    service: Service = await serve(sink.router)
    count = (2 << 20) // len(ROW)
    async with service.client() as client:
        response = await client.post("/ingest/sink", content=ROW * count, headers=JSONL)

    assert (response.json()["accepted"], len(sink.rows)) == (count, count)
    assert 0 < sink.ahead < 1 << 20


async def test_rows_that_stop_coming_are_answered_with_408(service: Service) -> None:
    async with service.raw_connection() as peer:
        await peer.send(head("readings", 1000) + ROW)
        assert b" 408 " in await peer.read_head()
    assert len(latest) == 1


async def test_an_ingestion_during_a_drain_is_refused(service: Service) -> None:
    await service.call(service.app.state.kernel.drain.begin)
    async with service.client() as client:
        response = await client.post("/ingest/readings", content=ROW, headers=JSONL)

    assert (response.status_code, len(latest)) == (503, 0)


def test_what_takes_no_list_of_rows_is_refused_at_the_start() -> None:
    async def one(row: Row) -> None: ...

    with pytest.raises(TypeError, match=r"async def one\(rows: list\[Model\], …\)"):
        IngestRouter().ingest("/rows")(one)


async def test_the_documentation_has_the_rows_and_the_parameters(serve: Any) -> None:
    service: Service = await serve(Sink().router)
    async with service.client() as client:
        document = (await client.get("/openapi.json")).json()

    operation = document["paths"]["/ingest/sink"]["post"]
    assert operation["description"] == "Take rows; this is the documentation."
    assert [parameter["name"] for parameter in operation["parameters"]] == ["then"]
    content = operation["requestBody"]["content"]["application/jsonl"]
    assert resolved(document, content["schema"])["required"] == ["sensor", "value"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.slow
async def test_the_memory_is_flat_whatever_the_number_of_rows(tmp_path: Path) -> None:
    block = (ROW[:-2] + b',"note":"%s"}\n' % (b"x" * 500)) * 1000

    async def send(peer: Any, blocks: int) -> None:
        await peer.send(head("readings", len(block) * blocks))
        for _ in range(blocks):
            await peer.send(block)
        await peer.read_until(b'"rejected":0')

    async with ServiceProcess(tmp_path) as process, process.raw_connection() as peer:
        await send(peer, 1)
        idle = process.peak_memory()
        await send(peer, 20 * SOAK)
        assert process.peak_memory() - idle < 4 << 20
