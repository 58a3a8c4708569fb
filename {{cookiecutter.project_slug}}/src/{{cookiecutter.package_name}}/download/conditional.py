"""Preconditions: which answer a request asks for, given what is stored.

Pure functions over headers and a FileRecord. Source: RFC 9110, section 13; dates: section 5.6.7.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from ..storage import FileRecord

_ETAG = re.compile(r'\s*(?:(W/)?("[\x21\x23-\x7e\x80-\xff]*"))?\s*(?:,|$)')


class Verdict(Enum):
    """What to answer; the values are status codes."""

    SEND = 200
    NOT_MODIFIED = 304
    PRECONDITION_FAILED = 412


def evaluate(headers: Mapping[str, str], record: FileRecord) -> Verdict:
    """Evaluate the preconditions of a GET or HEAD in the order of section 13.2.2."""
    modified = last_modified(record)
    if (field := headers.get("if-match")) is not None:
        if not _matches(field, record.etag, weak=False):
            return Verdict.PRECONDITION_FAILED
    elif (date := _date(headers.get("if-unmodified-since"))) and modified > date:
        return Verdict.PRECONDITION_FAILED
    if (field := headers.get("if-none-match")) is not None:
        return Verdict.NOT_MODIFIED if _matches(field, record.etag, weak=True) else Verdict.SEND
    if (date := _date(headers.get("if-modified-since"))) and modified <= date:
        return Verdict.NOT_MODIFIED
    return Verdict.SEND


def range_applies(headers: Mapping[str, str], record: FileRecord) -> bool:
    """Whether If-Range lets Range apply: only for our strong ETag (section 13.1.5).

    A date there is never strong here: two files may be completed within one second of an answer.
    """
    field = headers.get("if-range")
    return field is None or field.strip() == record.etag


def last_modified(record: FileRecord) -> datetime:
    """Return the Last-Modified of a file, in whole seconds."""
    return record.created_at.replace(microsecond=0)


def _matches(field: str, etag: str, *, weak: bool) -> bool:
    if field.strip() == "*":
        return True
    position = 0
    while position < len(field) and (match := _ETAG.match(field, position)):
        if match[2] == etag and (weak or not match[1]):
            return True
        position = match.end()
    return False


def _date(field: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(field or "")
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
