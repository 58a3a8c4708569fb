"""Forms and rows of tiny pieces: other requests get turns, and the cost is bounded."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from pydantic import TypeAdapter

from {{cookiecutter.package_name}}.engine.upload import forms, rows
from {{cookiecutter.package_name}}.engine.upload.multipart import part_of

from ..service import Service
from .forms import FORM, field, file, form

#: Bytes of a body, and the CPU seconds of the event loop that it may take.
SIZE, MOST = 100_000, 0.2
#: Rows that are all rejected, or empty lines.
ROWS = {
    "numbers": ("application/jsonl", b"1\n"),
    "no JSON": ("application/jsonl", b"x\n"),
    "objects": ("application/jsonl", b"{}\n"),
    "nested lists": ("application/jsonl", b"[" * 300 + b"\n"),
    "empty lines": ("application/jsonl", b"\n"),
    "empty lines of CSV": ("text/csv", b"\n"),
    "too few fields": ("text/csv", b"1\n"),
    "empty fields": ("text/csv", b",\n"),
    "quotes": ("text/csv", b'"\n'),
    "quotes that do not end a field": ("text/csv", b'"a"a\n'),
    "carriage returns": ("text/csv", b"a\rb\n"),
    "bytes that are no text": ("text/csv", b"\xff\n"),
}
#: These took three times as long when every error was explained.
COSTLY = ROWS.keys() - {
    "nested lists", "empty lines", "empty lines of CSV", "carriage returns", "quotes",
    "quotes that do not end a field",
}  # fmt: skip


class Turns:
    """Counts the turns of its event loop, and the events in each turn."""

    def __init__(self) -> None:
        self._turn = 0
        self.seen: Counter[int] = Counter()

    async def count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self._turn += 1

    def note(self) -> None:
        self.seen[self._turn] += 1


@pytest.fixture
async def turns(service: Service) -> Any:
    counted = Turns()

    async def start() -> "asyncio.Task[None]":
        return asyncio.create_task(counted.count())

    task = await service.in_server(start())
    yield counted
    await service.call(task.cancel)


async def post(service: Service, path: str, content_type: str, body: bytes) -> Any:
    async with service.client() as client:
        headers = {"Content-Type": content_type}
        return await client.post(path, content=body, headers=headers)


@pytest.mark.bound("3.4")
@pytest.mark.parametrize("line", ["", "x: " + "a" * 4000])
async def test_a_form_lets_others_run_after_a_few_headers(
    service: Service, turns: Turns, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    def noted(*args: Any) -> Any:
        turns.note()
        return part_of(*args)

    monkeypatch.setattr(forms, "part_of", noted)
    fields = [field(f"{number}", "", *filter(None, [line])) for number in range(100)]
    response = await post(service, "/files", FORM, form(*fields, file("a", b"x")))

    assert response.status_code == 201
    assert turns.seen.total() == 101
    assert max(turns.seen.values()) <= (2 if line else 8)


@pytest.mark.bound("3.5")
@pytest.mark.parametrize(
    ("content_type", "unit"), [("application/jsonl", b"\n"), ("text/csv", b"\n")]
)
async def test_lines_without_a_row_let_others_run(
    service: Service,
    turns: Turns,
    monkeypatch: pytest.MonkeyPatch,
    content_type: str,
    unit: bytes,
) -> None:
    kind = rows.CsvRows if content_type == "text/csv" else rows.JsonRows
    cut, sizes = kind._cut, []

    def noted(self: Any, size: int, is_last: bool) -> Any:
        turns.note()
        sizes.append(size)
        return cut(self, size, is_last)

    monkeypatch.setattr(kind, "_cut", noted)
    body = b"sensor,value\n" + unit * (1 << 20)
    response = await post(service, "/ingest/readings", content_type, body)

    assert response.status_code == 200
    assert max(sizes) <= 16 << 10
    assert max(turns.seen.values()) <= 2


@pytest.mark.bound("3.5")
@pytest.mark.parametrize("kind", [rows.JsonRows, rows.CsvRows])
def test_empty_lines_are_counted_like_rows(kind: type[rows.Rows]) -> None:
    batches = list(kind(TypeAdapter(dict[str, str])).feed(b"\n" * (16 << 10)))

    assert len(batches) > (16 << 10) // 250


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.bound("3.6") if name in COSTLY else ()) for name in ROWS],
)
async def test_a_small_body_of_tiny_rows_costs_little(service: Service, name: str) -> None:
    content_type, unit = ROWS[name]
    body = (b"sensor,value\n" if content_type == "text/csv" else b"") + unit * (SIZE // len(unit))
    spent = []
    for _ in range(3):
        before: float = await service.call(time.thread_time)
        response = await post(service, "/ingest/readings", content_type, body)
        spent.append(await service.call(time.thread_time) - before)

    assert response.status_code == 200
    assert len(response.json()["errors"]) <= 100
    assert min(spent) <= MOST


@pytest.mark.bound("3.7")
async def test_the_fields_of_a_row_are_counted_before_they_are_looked_at(service: Service) -> None:
    def header(count: int) -> bytes:
        return b",".join(b"%d" % number for number in range(count)) + b"\n"

    most = await post(service, "/ingest/readings", "text/csv", header(20_000))
    more = await post(service, "/ingest/readings", "text/csv", header(20_001))

    assert (most.status_code, more.status_code) == (200, 413)


@pytest.mark.parametrize(
    "parts",
    [[field(f"{number}", "x") for number in range(100)], [file("", b"") for _ in range(149)]],
)
async def test_a_form_may_have_a_hundred_fields_and_fifty_other_parts(
    service: Service, parts: list[bytes]
) -> None:
    response = await post(service, "/files", FORM, form(*parts, file("a", b"x")))
    assert response.status_code == 201


@pytest.mark.bound("3.8")
@pytest.mark.parametrize(
    ("bound", "parts"),
    [
        ("max_fields", [field(f"{number}", "x") for number in range(101)]),
        ("max_files", [file(f"{number}", b"") for number in range(50)]),
        ("max_files", [file("", b"") for _ in range(150)]),
        ("max_field_bytes", [field("long", "x" * (64 << 10))]),
    ],
)
async def test_a_form_with_more_is_refused_and_counted(
    service: Service, bound: str, parts: list[bytes]
) -> None:
    response = await post(service, "/files", FORM, form(*parts, file("a", b"x")))
    async with service.client() as client:
        metrics = (await client.get("/metrics")).text

    assert response.status_code == 413
    assert 'bounds_reached_total{bound="upload.' + bound + '"}' in metrics


async def test_deeply_nested_json_is_refused(service: Service) -> None:
    response = await post(service, "/ingest/readings", "application/jsonl", b"[" * SIZE)

    assert response.json()["rejected"] == 1
