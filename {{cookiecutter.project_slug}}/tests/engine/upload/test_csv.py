"""CSV: the accepted rows are those of Python's csv module, and all others are reported."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel, Field

from {{cookiecutter.package_name}}.engine.upload import IngestRouter
from {{cookiecutter.package_name}}.engine.upload.rows import ROW_LIMIT

from ..service import Service
from .csv_files import FILES, CsvFile

CSV = {"Content-Type": "text/csv"}


class Pipe(BaseModel):
    """A row whose model has the fields in another order, and one of them with an alias."""

    size: int
    label: str = Field(alias="name")
    note: str = ""


class Table:
    """Ingestions that keep their rows: with any columns, and with those of a model."""

    def __init__(self) -> None:
        self.router = IngestRouter(prefix="/ingest")
        self.rows: list[list[str]] = []
        self.pipes: list[Pipe] = []
        self.router.ingest("/table")(self.take)
        self.router.ingest("/pipes")(self.take_pipes)

    async def take(self, rows: list[dict[str, str]]) -> None:
        self.rows += [list(row.values()) for row in rows]

    async def take_pipes(self, rows: list[Pipe]) -> None:
        self.pipes += rows


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
async def service(serve: Any, table: Table) -> Service:
    started: Service = await serve(table.router)
    return started


async def one_by_one(body: bytes) -> AsyncIterator[bytes]:
    for at in range(len(body)):
        yield body[at : at + 1]
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(each, marks=[pytest.mark.fault("F3")] * each.was_misread, id=each.name)
        for each in FILES
    ],
)
async def test_a_file_has_the_rows_of_the_csv_module_or_a_report_of_them(
    service: Service, table: Table, file: CsvFile
) -> None:
    small = len(file.body) < 300
    async with service.client() as client:
        contents: list[Any] = [file.body, one_by_one(file.body)]
        for content in contents[: 1 + small]:
            table.rows.clear()
            report = (await client.post("/ingest/table", content=content, headers=CSV)).json()

            assert [error["line"] for error in report["errors"]] == list(file.reported)
            assert table.rows == file.rows()
            assert report["accepted"] == len(table.rows)
            assert report["rejected"] == len(file.reported)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"a,,c\n1,2,3\n", "The header row has no name for field 2."),
        (b"a,b,c,\n", "The header row has no name for field 4."),
        (b"a,b,c,b\n", "The header row has the same name for fields 2 and 4."),
        (b"a,b\r1,2\r", "The header row has a carriage return within a line"),
        (b"a,\0b\n", "The header row has a NUL character."),
        (b"a,\xff\n", "The header row is not UTF-8."),
        (b"\xef\xbb\xbf\xef\xbb\xbfa,b\n", "The header row begins with a byte order mark."),
        (b'"a"x,b\n1,2\n', "The header row has a quoted field that does not end"),
        (b'a,"b\n1,2\n', "The header row has a quoted field that is not closed"),
        ("name,size\n".encode("utf-16"), "The body is UTF-16 or UTF-32"),
        ("name,size\n".encode("utf-16-le"), "The body is UTF-16 or UTF-32"),
        ("name,size\n".encode("utf-16-be"), "The body is UTF-16 or UTF-32"),
        ("\ufeffa,b\n".encode("utf-32-be"), "The body is UTF-16 or UTF-32"),
        ("a,b".encode("utf-32-le"), "The body is UTF-16 or UTF-32"),
    ],
)
@pytest.mark.fault("F3")
async def test_a_file_that_cannot_be_read_is_told_why(
    service: Service, table: Table, body: bytes, detail: str
) -> None:
    async with service.client() as client:
        response = await client.post("/ingest/table", content=body, headers=CSV)

    assert (response.status_code, table.rows) == (400, [])
    assert detail in response.json()["detail"]


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        (b'"1"x,2', "The row has a quoted field that does not end at its closing quote."),
        (b"1,2\r3,4", "The row has a carriage return within a line"),
        (b"1,2,3", "The row has 3 fields, not 2."),
        (b"1,\0", "The row has a NUL character."),
        (b"1,\xff", "The row is not UTF-8."),
        (b'1,"2', "The row has a quoted field that is not closed, so the rest of the body belongs"),
    ],
)
@pytest.mark.fault("F3")
async def test_a_bad_row_is_told_why(service: Service, row: bytes, detail: str) -> None:
    async with service.client() as client:
        body = b'a,b\n"1\n1",2\n' + row + b"\n3,4\n"
        report = (await client.post("/ingest/table", content=body, headers=CSV)).json()

    assert [error["line"] for error in report["errors"]] == [4]
    assert report["errors"][0]["detail"].startswith(detail)


@pytest.mark.parametrize(
    ("row", "is_accepted"),
    [
        (b"x" * (ROW_LIMIT - 1) + b",", True),
        (b"x" * ROW_LIMIT + b",", False),
        (b'"' + b"x\n" * (ROW_LIMIT // 2 - 2) + b'",', True),
        (b'"' + b"x\n" * (ROW_LIMIT // 2 - 1) + b'",', False),
        (b'"' + b"\xc3\xa9" * (ROW_LIMIT // 2 - 1) + b"," + b"x\n" * 100, False),
        (b'"1"x,"' + b"x\n" * (ROW_LIMIT // 2), False),
    ],
)
async def test_a_row_may_have_a_mebibyte_however_many_lines_it_has(
    service: Service, table: Table, row: bytes, is_accepted: bool
) -> None:
    async with service.client() as client:
        body = b"a,b\n1,2\n" + row + b"\n3,4\n"
        response = await client.post("/ingest/table", content=body, headers=CSV)

    assert len(table.rows) == (3 if is_accepted else 1)
    assert response.status_code == (200 if is_accepted else 413)


@pytest.mark.parametrize("header", ["absent", "Absent", '"absent"'])
@pytest.mark.fault("F3")
async def test_a_file_without_a_header_has_the_fields_of_the_model_in_order(
    service: Service, table: Table, header: str
) -> None:
    fields = {"Content-Type": f"text/csv; charset=UTF-8; header={header}"}
    body = b'\n5,5" pipe,\n"6","a\nb",c\n7,x\n'
    async with service.client() as client:
        report = (await client.post("/ingest/pipes", content=body, headers=fields)).json()

    assert [(pipe.size, pipe.label, pipe.note) for pipe in table.pipes] == [
        (5, '5" pipe', ""),
        (6, "a\nb", "c"),
    ]
    assert [(error["line"], error["detail"]) for error in report["errors"]] == [
        (5, "The row has 2 fields, not 3.")
    ]


@pytest.mark.fault("F3")
async def test_a_file_without_names_for_its_fields_is_refused(service: Service) -> None:
    async with service.client() as client:
        for target, header in [("table", "absent"), ("pipes", "perhaps")]:
            fields = {"Content-Type": f"text/csv; header={header}"}
            response = await client.post(f"/ingest/{target}", content=b"1,2\n", headers=fields)
            assert response.status_code == 415


async def test_a_file_may_say_that_it_has_a_header(service: Service, table: Table) -> None:
    fields = {"Content-Type": "text/csv; header=present"}
    async with service.client() as client:
        await client.post("/ingest/table", content=b"a,b\n1,2\n", headers=fields)

    assert table.rows == [["1", "2"]]
