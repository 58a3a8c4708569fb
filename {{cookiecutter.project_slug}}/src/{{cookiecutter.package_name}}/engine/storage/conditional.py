"""Preconditions of requests: pure functions of headers and a FileRecord.

Source: RFC 9110, section 13.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum

from starlette.datastructures import Headers

from .records import FileRecord

_TAG = re.compile(r'[ \t]*(?:(W/)?("[\x21\x23-\x7e\x80-\xff]*")[ \t]*)?(?:,|\Z)')

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY_NAME = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY_NAME = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>[0-5]\d|60)"
#: IMF-fixdate, and the two obsolete formats that a recipient must accept.
_DATE_FORMATS = [
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"{_DAY_NAME}, (?P<day>\d\d) {_MONTH} (?P<year>\d\d\d\d) {_TIME} GMT",
        rf"{_LONG_DAY_NAME}, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT",
        rf"{_DAY_NAME} {_MONTH} (?P<day>\d\d| \d) {_TIME} (?P<year>\d\d\d\d)",
    )
]


class Verdict(Enum):
    """The result of the preconditions; the values are the status codes of a GET."""

    PERFORM = 200
    SEND_RANGES = 206
    NOT_MODIFIED = 304
    PRECONDITION_FAILED = 412


def combined(headers: Headers) -> dict[str, str]:
    """Return the fields of a request, the lines of each joined."""
    fields: dict[str, str] = {}
    for name, value in headers.items():
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def evaluate(method: str, fields: Mapping[str, str], record: FileRecord, now: datetime) -> Verdict:
    """Evaluate the preconditions of a request in the order of section 13.2.2.

    `fields` are combined headers; `now` is in UTC. SEND_RANGES means that Range applies, even if it
    is not valid.
    """
    modified = last_modified(record)
    reads = method in ("GET", "HEAD")
    if (field := fields.get("if-match")) is not None:
        if not _matches(field, record.etag, weak=False):
            return Verdict.PRECONDITION_FAILED
    elif (date := parse_date(fields.get("if-unmodified-since"), now)) and modified > date:
        return Verdict.PRECONDITION_FAILED
    if (field := fields.get("if-none-match")) is not None:
        if _matches(field, record.etag, weak=True):
            return Verdict.NOT_MODIFIED if reads else Verdict.PRECONDITION_FAILED
    elif reads and (date := parse_date(fields.get("if-modified-since"), now)) and modified <= date:
        return Verdict.NOT_MODIFIED
    if method == "GET" and "range" in fields and _is_current(fields.get("if-range"), record, now):
        return Verdict.SEND_RANGES
    return Verdict.PERFORM


def last_modified(record: FileRecord) -> datetime:
    """Return the Last-Modified of a file, in whole seconds."""
    return record.created_at.replace(microsecond=0)


def parse_date(field: str | None, now: datetime) -> datetime | None:
    """Return a date in one of the three formats of section 5.6.7; None if it is not valid."""
    if field is None:
        return None
    matches = (date_format.fullmatch(field) for date_format in _DATE_FORMATS)
    match = next(filter(None, matches), None)
    if match is None:
        return None
    parts = (int(match[name]) for name in ("year", "day", "hour", "minute", "second"))
    year, day, hour, minute, second = parts
    month = _MONTHS.index(match["month"]) + 1
    if len(match["year"]) == 2:
        year += now.year // 100 * 100
        # A two-digit year more than 50 years ahead is in the past.
        if (year - 50, month, day, hour, minute, second) > now.timetuple()[:6]:
            year -= 100
    try:
        minutes = datetime(year, month, day, hour, minute, tzinfo=UTC)
        return minutes + timedelta(seconds=second)  # A leap second is 60.
    except (ValueError, OverflowError):
        return None


def _matches(field: str, etag: str, *, weak: bool) -> bool:
    """Compare a list of entity tags (13.1.1, 13.1.2); an invalid list matches nothing."""
    if field == "*":
        return True
    found, position = False, 0
    while position < len(field):
        match = _TAG.match(field, position)
        if match is None:
            return False
        found = found or (match[2] == etag and (weak or not match[1]))
        position = match.end()
    return found


def _is_current(field: str | None, record: FileRecord, now: datetime) -> bool:
    """Evaluate If-Range (13.1.5): the file's tag, or its date once that is strong (8.8.2.2)."""
    if field is None or field == record.etag:
        return True
    modified = last_modified(record)
    return parse_date(field, now) == modified and now - modified >= timedelta(seconds=1)
