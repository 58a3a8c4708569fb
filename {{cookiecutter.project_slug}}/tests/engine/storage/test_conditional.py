"""Preconditions by RFC 9110: tables of cases for pure functions."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from starlette.datastructures import Headers

from {{cookiecutter.package_name}}.engine.storage import FileRecord
from {{cookiecutter.package_name}}.engine.storage.conditional import (
    Verdict,
    combined,
    evaluate,
    parse_date,
)

RECORD = FileRecord(
    id="01a203f1-0be9-76ef-96de-a7f65289fcd1",
    filename="a.txt",
    size=10,
    created_at=datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC),
)
NOW = datetime(2026, 7, 1, tzinfo=UTC)
TAG = RECORD.etag
BEFORE = "Thu, 01 Jan 2026 11:59:59 GMT"
EXACT = "Thu, 01 Jan 2026 12:00:00 GMT"
AFTER = "Thu, 01 Jan 2026 12:00:01 GMT"


def verdict(fields: dict[str, str], method: str = "GET", now: datetime = NOW) -> int:
    return int(evaluate(method, fields, RECORD, now).value)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (TAG, 200),
        ("*", 200),
        (f'"a", {TAG}', 200),
        (f'"a,b" ,,\t{TAG},', 200),
        (f'"",{TAG}', 200),
        (f"W/{TAG}", 412),
        (f'W/"a", W/{TAG}', 412),
        (f'"a,{TAG[1:]}', 412),
        (TAG.strip('"'), 412),
        ('"other"', 412),
        ("", 412),
        (",", 412),
        (f"*, {TAG}", 412),
        (f"{TAG}, nonsense", 412),
        (f"{TAG} {TAG}", 412),
        (f"w/{TAG}, {TAG}", 412),
        (f'"a\x7f", {TAG}', 412),
    ],
)
def test_if_match_needs_one_of_its_tags_to_be_ours_and_strong(field: str, expected: int) -> None:
    assert verdict({"if-match": field}) == expected
    assert verdict({"if-match": field}, "DELETE") == expected


@pytest.mark.parametrize(
    ("field", "matches"),
    [
        (TAG, True),
        (f"W/{TAG}", True),
        ("*", True),
        (f'"a,b" ,, W/"c", {TAG}', True),
        (f'"\xe4", {TAG}', True),
        ('"other"', False),
        (f'"a,{TAG[1:]}', False),
        (TAG.strip('"'), False),
        (f"*, {TAG}", False),
        ("", False),
    ],
)
def test_if_none_match_fails_when_any_of_its_tags_is_ours(field: str, matches: bool) -> None:
    assert verdict({"if-none-match": field}) == (304 if matches else 200)
    assert verdict({"if-none-match": field}, "HEAD") == (304 if matches else 200)
    assert verdict({"if-none-match": field}, "DELETE") == (412 if matches else 200)


@pytest.mark.spec("rfc9110-13.1.3c")
@pytest.mark.parametrize(
    ("date", "unmodified", "modified"),
    [
        (BEFORE, 412, 200),
        (EXACT, 200, 304),
        (AFTER, 200, 304),
        ("Thursday, 01-Jan-26 11:59:59 GMT", 412, 200),
        ("Thursday, 01-Jan-26 12:00:00 GMT", 200, 304),
        ("Thu Jan  1 11:59:59 2026", 412, 200),
        ("Thu Jan  1 12:00:00 2026", 200, 304),
        ("nonsense", 200, 200),
        ("", 200, 200),
        (f"{EXACT}, {EXACT}", 200, 200),
        (f"{BEFORE}, {BEFORE}", 200, 200),
    ],
)
def test_a_date_counts_if_it_is_one(date: str, unmodified: int, modified: int) -> None:
    assert verdict({"if-unmodified-since": date}) == unmodified
    assert verdict({"if-unmodified-since": date}, "DELETE") == unmodified
    assert verdict({"if-modified-since": date}) == modified
    assert verdict({"if-modified-since": date}, "HEAD") == modified
    assert verdict({"if-modified-since": date}, "DELETE") == 200


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 200),
        ({"if-match": TAG, "if-unmodified-since": BEFORE}, 200),
        ({"if-match": '"other"', "if-unmodified-since": AFTER}, 412),
        ({"if-match": '"other"', "if-none-match": TAG}, 412),
        ({"if-match": TAG, "if-none-match": TAG}, 304),
        ({"if-unmodified-since": BEFORE, "if-none-match": TAG}, 412),
        ({"if-none-match": '"other"', "if-modified-since": EXACT}, 200),
        ({"if-none-match": TAG, "if-modified-since": BEFORE}, 304),
        ({"if-none-match": TAG, "range": "bytes=0-1"}, 304),
        ({"if-match": TAG, "range": "bytes=0-1"}, 206),
        ({"if-match": '"other"', "range": "bytes=0-1", "if-range": TAG}, 412),
    ],
)
def test_preconditions_are_evaluated_in_order(fields: dict[str, str], expected: int) -> None:
    assert verdict(fields) == expected


def test_the_order_is_that_of_the_flow_chart_for_all_combinations() -> None:
    choices = {
        "if-match": (None, TAG, '"other"'),
        "if-unmodified-since": (None, AFTER, BEFORE),
        "if-none-match": (None, TAG, '"other"'),
        "if-modified-since": (None, AFTER, BEFORE),
        "range": (None, "bytes=0-1"),
        "if-range": (None, TAG, '"other"'),
        "method": ("GET", "HEAD", "DELETE"),
    }
    for values in itertools.product(*choices.values()):
        asked = {name: value for name, value in zip(choices, values, strict=True) if value}
        method = asked.pop("method")
        assert verdict(asked, method) == flow_chart(method, asked), (method, asked)


def flow_chart(method: str, asked: dict[str, str]) -> int:
    """Return the result for the values above, step by step as in section 13.2.2."""
    step = 1 if "if-match" in asked else 2
    if step == 1 and asked["if-match"] != TAG:
        return 412
    if step == 2 and asked.get("if-unmodified-since") == BEFORE:
        return 412
    step = 3 if "if-none-match" in asked else 4
    if step == 3 and asked["if-none-match"] == TAG:
        return 304 if method in ("GET", "HEAD") else 412
    if step == 4 and method in ("GET", "HEAD") and asked.get("if-modified-since") == AFTER:
        return 304
    if method == "GET" and "range" in asked and asked.get("if-range", TAG) == TAG:
        return 206
    return 200


@pytest.mark.parametrize(
    ("field", "applies"),
    [
        (TAG, True),
        (EXACT, True),
        ("Thursday, 01-Jan-26 12:00:00 GMT", True),
        (f"W/{TAG}", False),
        ('"other"', False),
        ("*", False),
        (f"{TAG}, {TAG}", False),
        (f'"a", {TAG}', False),
        (BEFORE, False),
        (AFTER, False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_if_range_needs_the_strong_validator(field: str, applies: bool) -> None:
    fields = {"range": "bytes=0-1", "if-range": field}
    assert verdict(fields) == (206 if applies else 200)


def test_the_date_of_a_file_is_strong_when_a_second_has_passed() -> None:
    fields = {"range": "bytes=0-1", "if-range": EXACT}
    completed = RECORD.created_at.replace(microsecond=0)
    assert verdict(fields, now=completed + timedelta(seconds=0.9)) == 200
    assert verdict(fields, now=completed + timedelta(seconds=1)) == 206


def test_range_is_for_get_only() -> None:
    assert verdict({"range": "bytes=0-1"}) == Verdict.SEND_RANGES.value
    assert verdict({"range": "bytes=0-1"}, "HEAD") == 200
    assert verdict({"range": "bytes=0-1"}, "DELETE") == 200


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", (1994, 11, 6, 8, 49, 37)),
        ("Sun Nov  6 08:49:37 1994", (1994, 11, 6, 8, 49, 37)),
        ("Wed Nov 16 08:49:37 1994", (1994, 11, 16, 8, 49, 37)),
        ("Sat, 31 Dec 2016 23:59:60 GMT", (2017, 1, 1, 0, 0, 0)),
        ("Wednesday, 01-Jul-76 00:00:00 GMT", (2076, 7, 1, 0, 0, 0)),
        ("Wednesday, 01-Jul-76 00:00:01 GMT", (1976, 7, 1, 0, 0, 1)),
        ("Tuesday, 29-Feb-00 00:00:00 GMT", (2000, 2, 29, 0, 0, 0)),
    ],
)
def test_the_three_formats_of_a_date_are_understood(
    field: str, expected: tuple[int, int, int, int, int, int]
) -> None:
    assert parse_date(field, NOW) == datetime(*expected, tzinfo=UTC)


@pytest.mark.parametrize(
    "field",
    [
        "",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 GMT",
        "So, 06 Nov 1994 08:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov 06 08:49:37 1994 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Fri, 31 Dec 9999 23:59:60 GMT",
        "Sun, 06 Nov \u0661\u0669\u0669\u0664 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
        "784111777",
        f"Mon, 01 Jan 2024 00:00:00 +{'9' * 20}",
    ],
)
def test_nothing_else_is_a_date(field: str) -> None:
    assert parse_date(field, NOW) is None


def test_several_lines_of_a_field_are_one_list() -> None:
    lines = [(b"if-match", b'"a"'), (b"host", b"x"), (b"if-match", b""), (b"if-match", b'"b"')]
    assert combined(Headers(raw=lines)) == {"if-match": '"a", , "b"', "host": "x"}
