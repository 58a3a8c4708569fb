"""Exports: every row in the format and coding that the client accepts, or a visible failure."""

import asyncio
import csv
import io
import json
import shutil
import subprocess
from collections.abc import AsyncGenerator, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, computed_field

from {{cookiecutter.package_name}}.engine.download import ExportRouter
from {{cookiecutter.package_name}}.engine.kernel import Problem

from ..service import Service, resolved

CURL = shutil.which("curl")
PAGE = "https://app.example.com"


class Row(BaseModel):
    text: str
    number: float | None = None
    flag: bool = True
    moment: datetime = datetime(2024, 1, 2, 3, 4)  # noqa: DTZ001
    parts: list[int] = []
    secret: str = Field(default="secret", exclude=True)

    @computed_field
    def size(self) -> int:
        return len(self.text)


def exporting(*rows: Row, name: str = "some", **options: Any) -> APIRouter:
    router = ExportRouter(prefix="/exports")

    @router.export(f"/{name}", **options)
    async def some() -> AsyncGenerator[Row]:
        """Some rows; this is the documentation."""
        for row in rows:
            yield row

    return router


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "application/jsonl"),
        ("*/*", "application/jsonl"),
        ("text/*", "text/csv; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("TEXT/CSV;header=present", "text/csv; charset=utf-8"),
        ("application/jsonl;q=0.1, text/csv", "text/csv; charset=utf-8"),
        ("application/jsonl;q=0, */*;q=0.5", "text/csv; charset=utf-8"),
    ],
)
async def test_an_export_comes_in_the_format_that_is_accepted(
    service: Service, accept: str, content_type: str
) -> None:
    async with service.client() as client:
        response = await client.get("/exports/lines?count=2", headers={"Accept": accept})

    assert response.headers["content-type"] == content_type
    assert response.headers["vary"] == "Accept, Accept-Encoding"
    expected = {
        "application/jsonl": '{"number":1,"text":"line 1"}\n{"number":2,"text":"line 2"}\n'
        '{"$end":{"count":2}}\n',
        "text/csv; charset=utf-8": "number,text\r\n1,line 1\r\n2,line 2\r\n",
        "text/plain; charset=utf-8": "1\tline 1\n2\tline 2\n",
    }
    assert response.text == expected[content_type]


@pytest.mark.fault("G25")
@pytest.mark.parametrize("accept", ["*/*", "text/csv", "image/png"])
@pytest.mark.parametrize(
    ("kind", "content_type", "text"),
    [
        ("jsonl", "application/jsonl", '{"number":1,"text":"line 1"}\n{"$end":{"count":1}}\n'),
        ("csv", "text/csv; charset=utf-8", "number,text\r\n1,line 1\r\n"),
        ("txt", "text/plain; charset=utf-8", "1\tline 1\n"),
    ],
)
async def test_a_link_selects_a_format_and_the_file_is_named(
    service: Service, kind: str, content_type: str, text: str, accept: str
) -> None:
    url = f"/exports/lines?count=1&format={kind}"
    async with service.client() as client:
        response = await client.get(url, headers={"Accept": accept})
        head = await client.head(url, headers={"Accept": accept})

    name = f"lines.{kind}"
    for each in (response, head):
        assert each.headers["content-type"] == content_type
        assert each.headers["content-disposition"] == (
            f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}"
        )
        assert each.headers["cache-control"] == "no-store"
    assert response.text == text


@pytest.mark.fault("G25")
@pytest.mark.parametrize("query", ["format=xlsx", "format=", "format=CSV", "bom=maybe"])
async def test_an_unknown_format_is_not_valid(service: Service, query: str) -> None:
    async with service.client() as client:
        assert (await client.get(f"/exports/lines?{query}")).status_code == 422


@pytest.mark.fault("G25")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("format=csv&bom=1", "\ufeffnumber,text\r\n1,line 1\r\n"),
        ("format=csv&bom=0", "number,text\r\n1,line 1\r\n"),
        ("format=csv&bom=true&count=0", "\ufeffnumber,text\r\n"),
        ("format=txt&bom=1", "1\tline 1\n"),
        ("format=jsonl&bom=1", '{"number":1,"text":"line 1"}\n{"$end":{"count":1}}\n'),
    ],
)
async def test_csv_for_excel_begins_with_a_byte_order_mark(
    service: Service, query: str, expected: str
) -> None:
    async with service.client() as client:
        response = await client.get(f"/exports/lines?count=1&{query}")
    assert response.content.decode() == expected


@pytest.mark.fault("G25")
@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("https://example.com")', '\'=HYPERLINK("https://example.com")'),
        ("+49 30 1234", "'+49 30 1234"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-", "'-"),
        ("-5", "-5"),
        ("+5.50", "+5.50"),
        ("-1e-7", "-1e-7"),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        ("", ""),
    ],
)
async def test_formulas_of_strangers_are_escaped_if_the_owner_says_so(
    serve: Any, text: str, escaped: str
) -> None:
    row = Row(text=text, number=-5)
    service: Service = await serve(
        exporting(row, escape_formulas=True, name="safe"), exporting(row)
    )
    cells, values = {}, {}
    async with service.client() as client:
        for name in ("safe", "some"):
            lines = (await client.get(f"/exports/{name}?format=csv")).text
            _, cells[name] = csv.reader(io.StringIO(lines, newline=""))
            values[name] = (await client.get(f"/exports/{name}?format=jsonl")).text
        plain = (await client.get("/exports/safe?format=txt")).text

    assert cells["safe"][:2] == [escaped, "-5.0"]
    assert cells["some"][:2] == [text, "-5.0"]
    assert plain.partition("\t-5.0")[0].split() == escaped.split()
    assert values["safe"] == values["some"]


@pytest.mark.fault("G25")
async def test_parameters_of_an_export_replace_those_of_all_exports(serve: Any) -> None:
    router = ExportRouter(prefix="/exports")

    @router.export("/own/{format}")
    async def own(format: str, bom: int = 7) -> AsyncGenerator[Row]:  # noqa: A002
        yield Row(text=f"{format} {bom}")

    service: Service = await serve(router)
    async with service.client() as client:
        response = await client.get("/exports/own/pdf?bom=9", headers={"Accept": "text/plain"})
        document = (await client.get("/openapi.json")).json()

    assert response.text.startswith("pdf 9\t")
    parameters = document["paths"]["/exports/own/{format}"]["get"]["parameters"]
    assert [(each["name"], each["in"]) for each in parameters] == [
        ("format", "path"), ("bom", "query")
    ]  # fmt: skip


@pytest.mark.parametrize("field", ["Accept: image/png", "Accept-Encoding: br, *;q=0"])
async def test_an_export_in_no_available_format_or_coding_is_406(
    service: Service, field: str
) -> None:
    name, _, value = field.partition(": ")
    async with service.client() as client:
        response = await client.get("/exports/lines", headers={name: value})
    assert (response.status_code, response.headers["vary"]) == (406, name)


@pytest.mark.parametrize(
    ("accept", "text"),
    [("*/*", '{"$end":{"count":0}}\n'), ("text/csv", "number,text\r\n"), ("text/plain", "")],
)
async def test_an_export_without_rows_is_complete(service: Service, accept: str, text: str) -> None:
    async with service.client() as client:
        response = await client.get("/exports/lines?count=0", headers={"Accept": accept})
        head = await client.head("/exports/lines?count=0", headers={"Accept": accept})

    assert (response.status_code, response.text) == (200, text)
    assert (head.status_code, head.text) == (200, "")
    assert head.headers["content-type"] == response.headers["content-type"]


@pytest.mark.trap("D13")
@pytest.mark.parametrize("accept", ["application/jsonl", "text/csv"])
async def test_an_export_that_fails_half_way_never_looks_complete(
    service: Service, accept: str
) -> None:
    received = b""
    fields = {"Accept": accept, "Accept-Encoding": "identity"}
    async with service.client() as client:
        url = "/exports/lines?count=9&fail_after=2"
        with pytest.raises(httpx.RemoteProtocolError):
            async with client.stream("GET", url, headers=fields) as response:
                async for chunk in response.aiter_raw():
                    received += chunk

    assert b"line 2" in received
    assert await service.outcome_of("GET /exports/lines") == "server_error"
    if accept == "application/jsonl":
        last: dict[str, Any] = json.loads(received.splitlines()[-1])
        assert last["$error"]["status"] == 500
        assert "the example failed" not in received.decode()


@pytest.mark.skipif(CURL is None, reason="needs curl")
@pytest.mark.parametrize(("coding", "feature"), [("gzip", "libz"), ("zstd", "zstd")])
async def test_curl_fails_when_a_compressed_export_does(
    serve: Any, coding: str, feature: str
) -> None:
    assert CURL is not None
    if feature not in subprocess.run([CURL, "--version"], capture_output=True, text=True).stdout:
        pytest.skip(f"this curl does not support {coding}")
    service: Service = await serve(cors={"origins": PAGE})
    curl = [CURL, "-sS", "-i", "--compressed", "-H", f"Accept-Encoding: {coding}"]
    curl += ["-H", f"Origin: {PAGE}"]
    url = f"{service.url}/exports/lines?count=9"
    whole = subprocess.run([*curl, url], capture_output=True, text=True)
    failed = subprocess.run([*curl, f"{url}&fail_after=2"], capture_output=True, text=True)

    assert whole.returncode == 0, whole.stderr
    assert f"content-encoding: {coding}" in whole.stdout
    assert whole.stdout.endswith('{"$end":{"count":9}}\n')
    assert failed.returncode != 0
    assert f"access-control-allow-origin: {PAGE}" in failed.stdout
    assert '"line 2"' in failed.stdout
    assert '{"$error":{' in failed.stdout.splitlines()[-1]


async def test_a_row_is_compressed_and_sent_before_the_next_is_made(serve: Any) -> None:
    router = ExportRouter(prefix="/exports")
    seen = asyncio.Event()

    @router.export("/slow")
    async def slow() -> AsyncGenerator[Row]:
        yield Row(text="first")
        await seen.wait()
        yield Row(text="second")

    service: Service = await serve(router)
    text = ""
    async with (
        service.client() as client,
        client.stream("GET", "/exports/slow", headers={"Accept-Encoding": "gzip"}) as response,
    ):
        async for decoded in response.aiter_text():
            text += decoded
            if "first" in decoded:
                await service.call(seen.set)
    assert response.headers["content-encoding"] == "gzip"
    assert text.endswith('{"$end":{"count":2}}\n')


async def test_cells_are_strings_as_they_are_and_else_json(serve: Any) -> None:
    rows = [
        Row(text='a "quoted",\r\nline', number=1.5, parts=[1, 2]),
        Row(text="=1+1\t\u2028", number=None, flag=False),
        Row(text="", number=float("nan")),
    ]
    service: Service = await serve(exporting(*rows))
    async with service.client() as client:
        as_csv = await client.get("/exports/some", headers={"Accept": "text/csv"})
        as_text = await client.get("/exports/some", headers={"Accept": "text/plain"})

    moment = "2024-01-02T03:04:00"
    assert list(csv.reader(io.StringIO(as_csv.text, newline=""), strict=True)) == [
        ["text", "number", "flag", "moment", "parts", "size"],
        [rows[0].text, "1.5", "true", moment, "[1,2]", str(len(rows[0].text))],
        [rows[1].text, "", "false", moment, "[]", "6"],
        ["", "", "true", moment, "[]", "0"],
    ]
    assert as_text.text.split("\n")[:2] == [
        f'a "quoted",  line\t1.5\ttrue\t{moment}\t[1,2]\t{len(rows[0].text)}',
        f"=1+1 \u2028\t\tfalse\t{moment}\t[]\t6",
    ]


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ("application/jsonl", '{"field":1}\n{"$end":{"count":1}}\n'),
        ("text/csv", "field\r\n1\r\n"),
        ("text/plain", "1\n"),
    ],
)
async def test_fields_have_their_own_names_and_no_aliases(
    serve: Any, accept: str, text: str
) -> None:
    class Aliased(BaseModel):
        model_config = ConfigDict(serialize_by_alias=True)

        field: int = Field(serialization_alias="other")

    router = ExportRouter(prefix="/exports")

    @router.export("/aliased")
    async def aliased() -> AsyncGenerator[Aliased]:
        yield Aliased(field=1)

    service: Service = await serve(router)
    async with service.client() as client:
        response = await client.get("/exports/aliased", headers={"Accept": accept})
        document = (await client.get("/openapi.json")).json()

    assert response.text == text
    content = document["paths"]["/exports/aliased"]["get"]["responses"]["200"]["content"]
    row = resolved(document, content["application/jsonl"]["schema"]["anyOf"][0])
    assert row["properties"].keys() == {"field"}


async def test_an_export_may_look_at_the_request(serve: Any) -> None:
    router = ExportRouter(prefix="/exports")

    @router.export("/asked")
    async def asked(word: str, request: Request) -> AsyncGenerator[Row]:
        yield Row(text=f"{word} {request.url.path} {request.headers['x-word']}")

    service: Service = await serve(router)
    async with service.client() as client:
        response = await client.get("/exports/asked?word=a", headers={"X-Word": "b"})
    assert json.loads(response.text.splitlines()[0])["text"] == "a /exports/asked b"


async def test_json_lines_are_the_same_lines_for_clients_that_split_at_more_characters(
    serve: Any,
) -> None:
    router = ExportRouter(prefix="/exports")
    text = "a\x85b\u2028c\u2029é"

    @router.export("/failing")
    async def failing() -> AsyncGenerator[Row]:
        yield Row(text=text)
        raise Problem(500, text)

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/exports/failing")
        lines = (await peer.read_until(b"}}\n")).decode().splitlines()

    row, last = [json.loads(line) for line in lines if line.startswith("{")]
    assert (row["text"], last["$error"]["detail"]) == (text, text)


async def test_a_problem_before_the_first_row_is_the_answer(serve: Any) -> None:
    router = ExportRouter(prefix="/exports")

    @router.export("/missing")
    async def missing() -> AsyncGenerator[Row]:
        raise Problem(404, "not here")
        yield Row(text="")

    service: Service = await serve(router)
    async with service.client() as client:
        response = await client.get("/exports/missing", headers={"Accept": "text/csv"})
    assert response.status_code == 404


def test_what_is_no_generator_of_a_model_is_refused_at_the_start() -> None:
    def blocking() -> Iterator[Row]:
        yield Row(text="a")

    async def rows_of_any_kind() -> AsyncGenerator[dict[str, int]]:
        yield {"number": 1}

    async def of_no_kind():  # type: ignore[no-untyped-def]  # noqa: ANN202
        yield Row(text="a")

    for rows in (blocking, rows_of_any_kind, of_no_kind):
        with pytest.raises(TypeError, match=rf"async def {rows.__name__}\(…\) -> AsyncGenerator"):
            ExportRouter().export("/rows")(rows)  # type: ignore[type-var]


async def test_the_documentation_has_the_rows_and_the_parameters(serve: Any) -> None:
    service: Service = await serve(exporting())
    async with service.client() as client:
        document = (await client.get("/openapi.json")).json()

    paths = document["paths"]
    content = paths["/exports/some"]["get"]["responses"]["200"]["content"]
    assert paths["/exports/some"].keys() == {"get"}
    assert paths["/exports/some"]["get"]["description"] == "Some rows; this is the documentation."
    assert content.keys() == {"application/jsonl", "text/csv", "text/plain"}
    items = content["application/jsonl"]["schema"]["anyOf"]
    row, last = (resolved(document, item) for item in items)
    assert last["properties"].keys() == {"$end", "$error"}
    assert list(row["properties"]) == ["text", "number", "flag", "moment", "parts", "size"]
    parameters = paths["/exports/table"]["get"]["parameters"]
    assert [parameter["name"] for parameter in parameters] == ["after", "limit", "format", "bom"]
    formats = parameters[2]["schema"]["anyOf"][0]
    assert formats["enum"] == ["jsonl", "csv", "txt"]


async def test_a_decorator_for_two_exports_keeps_its_dependencies(serve: Any) -> None:
    async def refuse() -> None:
        raise Problem(403)

    router = ExportRouter(prefix="/exports")
    export = router.export("/{name}", dependencies=[Depends(refuse)])

    @export
    async def first(name: str) -> AsyncGenerator[Row]:
        yield Row(text=name)

    other = ExportRouter(prefix="/others")
    other.export("/{name}", dependencies=[Depends(refuse)])(first)
    export(first)
    service = await serve(router, other)
    async with service.client() as client:
        statuses = [
            (await client.request(method, path)).status_code
            for method in ("GET", "HEAD")
            for path in ("/exports/a", "/others/a")
        ]
    refused = [route.dependencies for route in router.routes if isinstance(route, APIRoute)]

    assert statuses == [403] * 4
    assert len({len(each) for each in refused}) == 1
