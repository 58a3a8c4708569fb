"""Ranges of RFC 9110: tables of cases for the pure functions, and what hostile ones cost."""

import random
import re
import time

import pytest

from {{cookiecutter.package_name}}.engine.download.ranges import (
    MIN_GAP,
    ByteRange,
    Selection,
    coalesced,
    parse_ranges,
    select,
)
from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.kernel.fields import MAX_LIST

from ..service import SOAK, Service
from ..storage.stored import store

SIZE = 10_000
#: Seconds of CPU time of the event loop for one request.
MOST = 0.2
TEXT = "text/plain"


def parsed(field: str, size: int = 10) -> list[tuple[int, int]] | None:
    ranges = parse_ranges(field, size)
    return None if ranges is None else [(part.start, part.stop) for part in ranges]


def body(selection: Selection, data: bytes) -> bytes:
    """Return the bytes that a selection sends."""
    pieces = selection.pieces
    return b"".join(p if isinstance(p, bytes) else data[p.start : p.stop] for p in pieces)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-3", [(0, 4)]),
        ("BYTES=0-3", [(0, 4)]),
        ("bytes=4-", [(4, 10)]),
        ("bytes=9-9", [(9, 10)]),
        ("bytes=-3", [(7, 10)]),
        ("bytes=-30", [(0, 10)]),
        ("bytes=8-99", [(8, 10)]),
        ("bytes=000-003", [(0, 4)]),
        ("bytes=0-1,4-5", [(0, 2), (4, 6)]),
        ("bytes=8-,0-1, -3", [(8, 10), (0, 2), (7, 10)]),
        ("bytes=,0-3,", [(0, 4)]),
        ("bytes=0-1 ,\t, 4-5", [(0, 2), (4, 6)]),
        ("bytes=0-1,20-30", [(0, 2)]),
        ("bytes=20-30,-0,2-", [(2, 10)]),
        ("bytes=10-", []),
        ("bytes=-0", []),
        ("bytes=10-,-0,99-100", []),
        ("bytes=4-" + "9" * 5000, [(4, 10)]),
        ("bytes=-" + "9" * 5000, [(0, 10)]),
        ("bytes=" + "9" * 5000 + "-", []),
        ("bytes=" + "0" * 5000 + "4-", [(4, 10)]),
    ],
)
def test_ranges_are_read_and_clamped(field: str, expected: list[tuple[int, int]]) -> None:
    assert parsed(field) == expected


@pytest.mark.parametrize(
    "field",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes= ,",
        "bytes=-",
        "bytes=--1",
        "bytes=a-b",
        "bytes=1",
        "bytes=1-2-3",
        "bytes=+1-5",
        "bytes=1-+5",
        "bytes=1_0-2_0",
        "bytes=0x1-0x2",
        "bytes=1.0-2",
        "bytes=1e0-2",
        "bytes=\u0661-\u0662",
        "bytes=\u00b2-\u00b3",
        "bytes =0-3",
        "bytes= 0-3",
        "bytes=0 -3",
        "bytes=0- 3",
        "bytes=0-1;4-5",
        "bytes=0-1 4-5",
        "bytes=3-1",
        "bytes=" + "9" * 5000 + "-" + "9" * 4999 + "8",
        "bytes=0-1,3-1",
        "bytes=0-1,junk",
        "bytes=0-1,bytes=4-5",
        "bytes=0-1, bytes=4-5",
        "bytes:0-1",
        "lines=0-3",
        "byte\u017f=0-3",
        "none",
        "bytes=0-3\n",
        ",bytes=0-3",
    ],
)
def test_a_field_that_is_not_all_valid_does_not_count(field: str) -> None:
    assert parsed(field) is None


@pytest.mark.parametrize(
    ("field", "expected"),
    [("bytes=0-", []), ("bytes=0-0", []), ("bytes=-0", []), ("bytes=-5", None)],
)
def test_of_an_empty_file_only_its_end_can_be_sent(
    field: str, expected: list[tuple[int, int]] | None
) -> None:
    assert parsed(field, 0) == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=" + " ," * 30_000 + "x", None),
        ("bytes=" + "0-1," * 15_000, [(0, 2)] * 15_000),
        ("bytes=" + "0-1," * 15_000 + "x", None),
        ("bytes=" + " " * 60_000, None),
    ],
)
def test_a_long_field_is_read_in_one_pass(
    field: str, expected: list[tuple[int, int]] | None
) -> None:
    assert parsed(field) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([(0, 10), (500, 510)], [(0, 10), (500, 510)]),
        ([(500, 510), (0, 10)], [(500, 510), (0, 10)]),
        ([(0, 10), (5, 20)], [(0, 20)]),
        ([(5, 20), (0, 10)], [(0, 20)]),
        ([(0, 100), (20, 30)], [(0, 100)]),
        ([(0, 10), (0, 10)], [(0, 10)]),
        ([(0, 10), (10 + MIN_GAP - 1, 200)], [(0, 200)]),
        ([(0, 10), (10 + MIN_GAP, 200)], [(0, 10), (10 + MIN_GAP, 200)]),
        ([(300, 310), (0, 10), (150, 160), (80, 90)], [(300, 310), (0, 160)]),
        ([(900, 910), (0, 10), (950, 960), (500, 510)], [(900, 960), (0, 10), (500, 510)]),
    ],
)
def test_ranges_that_nearly_touch_become_one_in_the_order_asked_for(
    asked: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    ranges = coalesced(ByteRange(*pair) for pair in asked)
    assert [(part.start, part.stop) for part in ranges] == expected


@pytest.mark.parametrize(
    ("field", "content_range"),
    [
        ("bytes=0-0", "bytes 0-0/10000"),
        ("bytes=0-", "bytes 0-9999/10000"),
        ("bytes=-1", "bytes 9999-9999/10000"),
        ("bytes=5-9,99999-", "bytes 5-9/10000"),
        ("bytes=0-9,5-19", "bytes 0-19/10000"),
        ("bytes=0-9,0-9", "bytes 0-9/10000"),
    ],
)
def test_what_is_one_part_in_the_end_is_sent_as_one(field: str, content_range: str) -> None:
    selection = select(field, SIZE, TEXT)
    (part,) = selection.pieces
    assert isinstance(part, ByteRange)
    assert selection.status == 206
    assert selection.headers == {
        "Content-Length": str(part.length),
        "Content-Range": content_range,
    }


def test_several_parts_are_framed_one_by_one() -> None:
    data = random.randbytes(SIZE)
    selection = select("bytes=5000-5099,0-99", SIZE, TEXT)
    sent = body(selection, data)

    boundary = selection.headers["Content-Type"].removeprefix("multipart/byteranges; boundary=")
    assert re.fullmatch("[0-9a-f]{32}", boundary)
    mark = b"--" + boundary.encode()
    head = b"\r\nContent-Type: text/plain\r\nContent-Range: bytes "
    assert sent == b"".join(
        [
            mark + head + b"5000-5099/10000\r\n\r\n" + data[5000:5100],
            b"\r\n" + mark + head + b"0-99/10000\r\n\r\n" + data[:100],
            b"\r\n" + mark + b"--\r\n",
        ]
    )
    assert selection.status == 206
    assert selection.headers["Content-Length"] == str(len(sent))
    assert "Content-Range" not in selection.headers


def test_no_two_answers_have_the_same_boundary() -> None:
    types = {select("bytes=0-0,900-900", SIZE, TEXT).headers["Content-Type"] for _ in range(50)}
    assert len(types) == 50


@pytest.mark.parametrize(
    "field",
    [
        "bytes=" + ",".join(f"{n * 100}-{n * 100}" for n in range(99)),
        "bytes=" + ",".join(f"{n * 100}-{n * 100 + 10}" for n in range(90)),
        "bytes=0-4940,5030-",
        "bytes=5-1,0-3",
        "lines=1-2",
    ],
)
def test_what_costs_more_than_the_whole_or_does_not_count_is_the_whole(field: str) -> None:
    selection = select(field, SIZE, TEXT)
    assert selection.status == 200
    assert selection.pieces == [ByteRange(0, SIZE)]
    assert selection.headers == {"Content-Length": str(SIZE)}


@pytest.mark.fault("G24")
@pytest.mark.parametrize("count", [2, 16, 17, 100, 256, 257, 450])
def test_one_more_range_costs_only_one_more_part(count: int) -> None:
    size = 200 << 20
    asked = [f"{n * 400_000}-{n * 400_000 + 63}" for n in range(count)]

    selection = select("bytes=" + ",".join(asked), size, TEXT)

    parts = [piece for piece in selection.pieces if isinstance(piece, ByteRange)]
    assert (selection.status, len(parts)) == (206, count)
    assert int(selection.headers["Content-Length"]) < count * 250


@pytest.mark.bound("H17")
@pytest.mark.fault("G24")
@pytest.mark.parametrize(
    "specs",
    [
        ["0-"] * 2700,
        ["0-0,99-"] * 1000,
        [f"{n}-{n + 99_999}" for n in range(600)],
        [f"{n * 81}-{n * 81}" for n in range(700)],
        [f"{n * 81}-{n * 81}" for n in range(650, 0, -1)],
        [f"{n * 600}-{n * 600 + 500}" for n in range(600)],
    ],
    ids=["same", "two in turn", "shifted", "tiny", "backwards", "parts of all"],
)
async def test_hostile_ranges_cost_little_and_send_less_than_the_file(
    service: Service, specs: list[str]
) -> None:
    size = 2 << 20
    file_id = await store(service, b"x" * size)
    field = ("bytes=" + ",".join(specs))[:MAX_LIST].rpartition(",")[0]
    async with service.client() as client:
        began: float = await service.call(time.thread_time)
        response = await client.get(f"/files/{file_id}", headers={"Range": field})
        spent = await service.call(time.thread_time) - began
        longer = await client.get(f"/files/{file_id}", headers={"Range": field + ",0-0" * 999})

    assert response.status_code in (200, 206)
    assert len(response.content) <= size
    assert longer.status_code == 431
    assert spent < MOST


@pytest.mark.parametrize(("field", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_no_satisfiable_range_is_416(field: str, size: int) -> None:
    with pytest.raises(Problem) as refused:
        select(field, size, TEXT)
    assert refused.value.status_code == 416
    assert refused.value.headers == {
        "Content-Range": f"bytes */{size}",
        "Accept-Ranges": "bytes",
    }


def test_whatever_is_asked_for_is_sent_and_not_more_than_the_file() -> None:
    source = random.Random(9110)
    for _ in range(300 * SOAK):
        size = source.choice([1, 100, 1000, SIZE])
        asked = [asked_range(source, size) for _ in range(source.choice([1, 2, 3, 30]))]
        data = source.randbytes(size)
        selection = select("bytes=" + ",".join(spec for spec, _ in asked), size, TEXT)
        sent = body(selection, data)

        assert int(selection.headers["Content-Length"]) == len(sent) <= size
        ranges = [piece for piece in selection.pieces if isinstance(piece, ByteRange)]
        covered = {byte for part in ranges for byte in range(part.start, part.stop)}
        assert covered >= {byte for _, part in asked for byte in part}
        assert len(covered) == sum(part.length for part in ranges)


def asked_range(source: random.Random, size: int) -> tuple[str, range]:
    """Return a satisfiable range as text, and its bytes."""
    start = source.randrange(size)
    last = source.randrange(start, size * 2)
    match source.randrange(3):
        case 0:
            return f"{start}-", range(start, size)
        case 1:
            return f"-{size - start}", range(start, size)
        case _:
            return f"{start}-{last}", range(start, min(last + 1, size))
