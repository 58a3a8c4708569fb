"""Ranges and preconditions, as RFC 9110 decides them; pure functions, so tables of cases."""

from datetime import UTC, datetime

import pytest

from {{cookiecutter.package_name}}.download.conditional import Verdict, evaluate, range_applies
from {{cookiecutter.package_name}}.download.ranges import ByteRange, Unsatisfiable, parse_range
from {{cookiecutter.package_name}}.storage import FileRecord

UNKNOWN = "01a203f1-0be9-76ef-96de-a7f65289fcd1"
RECORD = FileRecord(
    id=UNKNOWN,
    filename="a.txt",
    size=10,
    created_at=datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC),
)
TAG = RECORD.etag
BEFORE = "Thu, 01 Jan 2026 11:59:59 GMT"
EXACT = "Thu, 01 Jan 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (None, None),
        ("bytes=0-3", ByteRange(0, 4)),
        ("BYTES = 0-3", ByteRange(0, 4)),
        ("bytes=4-", ByteRange(4, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-30", ByteRange(0, 10)),
        ("bytes=8-99", ByteRange(8, 10)),
        ("bytes=,0-3,", ByteRange(0, 4)),
        ("bytes=4-" + "9" * 5000, ByteRange(4, 10)),
        ("bytes=-" + "9" * 5000, ByteRange(0, 10)),
        ("bytes=0-1,4-5", None),
        ("bytes=3-1", None),
        ("bytes=+1-5", None),
        ("bytes=1_0-2_0", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("lines=0-3", None),
        ("nonsense", None),
    ],
)
def test_a_range_is_parsed_as_rfc_9110_says(field: str | None, expected: ByteRange | None) -> None:
    assert parse_range(field, 10) == expected


@pytest.mark.parametrize(
    ("field", "length"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=-1", 0)]
)
def test_a_range_outside_the_file_is_unsatisfiable(field: str, length: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(field, length)


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, 200),
        ({"if-match": TAG}, 200),
        ({"if-match": f'"a", {TAG}'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": f"W/{TAG}"}, 412),
        ({"if-match": '"a,b"'}, 412),
        ({"if-unmodified-since": EXACT}, 200),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-unmodified-since": "nonsense"}, 200),
        ({"if-match": TAG, "if-unmodified-since": BEFORE}, 200),
        ({"if-none-match": TAG}, 304),
        ({"if-none-match": f"W/{TAG}"}, 304),
        ({"if-none-match": f'"a,b" ,, W/"c", {TAG}'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"other"'}, 200),
        ({"if-none-match": '"other"', "if-modified-since": EXACT}, 200),
        ({"if-modified-since": EXACT}, 304),
        ({"if-modified-since": "Thursday, 01-Jan-26 12:00:00 GMT"}, 304),
        ({"if-modified-since": "Thu Jan  1 12:00:00 2026"}, 304),
        ({"if-modified-since": BEFORE}, 200),
        ({"if-modified-since": "nonsense"}, 200),
        ({"if-modified-since": f"Mon, 01 Jan 2024 00:00:00 +{'9' * 20}"}, 200),
        ({"if-match": '"other"', "if-none-match": TAG}, 412),
    ],
)
def test_preconditions_are_evaluated_in_order(headers: dict[str, str], verdict: int) -> None:
    assert evaluate(headers, RECORD) is Verdict(verdict)


@pytest.mark.parametrize(
    ("field", "applies"), [(None, True), (TAG, True), (f"W/{TAG}", False), (EXACT, False)]
)
def test_if_range_needs_the_strong_validator(field: str | None, applies: bool) -> None:
    headers = {} if field is None else {"if-range": field}
    assert range_applies(headers, RECORD) is applies
