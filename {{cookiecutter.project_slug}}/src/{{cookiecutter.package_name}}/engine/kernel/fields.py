"""Header fields as RFC 9110 defines them: several lines of a list are one list.

Sources: RFC 9110, sections 5.3 (field order), 5.4 (limits) and 5.6.1 (lists); RFC 6585, section 5
(431).
"""

from collections.abc import Iterable

from starlette.datastructures import Headers

from .kernel import BOUNDS
from .problem import Problem, ProblemType

TOO_LONG = ProblemType(
    "field-too-long",
    "A header field is too long",
    "A header field of the request is longer than the service accepts. `field` is its name, and"
    " `limit` is the maximum number of bytes in all lines of this field. Send a shorter value.",
)

#: Fields that may not have two different values. Dates are not among them: a list of dates is
#: invalid, and ignored (RFC 9110, sections 13.1.3 and 13.1.4).
SINGLE = {
    b"authorization", b"content-disposition", b"content-range", b"content-type",
    b"idempotency-key", b"last-event-id", b"x-http-method-override",
}  # fmt: skip
#: Bytes of all lines of a field that is parsed, ten times as many as in ordinary requests. The
#: longest fields have a file name: percent-encoded and sent twice, its 255 bytes of UTF-8 take 1.5
#: KiB.
MAX_FIELD = 2 << 10
#: Bytes of a list of validators or ranges: caches send many.
MAX_LIST = 8 << 10
_LIMITS = dict.fromkeys([b"if-match", b"if-none-match", b"range"], MAX_LIST) | dict.fromkeys([
    b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"content-digest",
    b"content-disposition", b"content-encoding", b"content-type", b"expect", b"forwarded",
    b"if-range", b"prefer", b"repr-digest", b"upload-checksum", b"upload-complete",
    b"upload-length", b"upload-offset", b"want-content-digest", b"want-repr-digest",
    b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
], MAX_FIELD)  # fmt: skip


def joined(headers: Headers, name: str) -> str:
    """Return all lines of a list field, joined by commas; empty if there are none."""
    return ", ".join(headers.getlist(name))


def members(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the members of a list of tokens, in lower case; `headers` are those of a scope."""
    lines = [line for key, line in headers if key == name]
    found = (member.strip(b" \t").lower() for line in lines for member in line.split(b","))
    return [member for member in found if member]


def problem_of(headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
    """Return Problem 431 for a field that is too long, 400 for one with two different values."""
    left: dict[bytes, int] = {}
    first: dict[bytes, bytes] = {}
    for name, value in headers:
        if limit := _LIMITS.get(name):
            left[name] = left.get(name, limit) - len(value)
            if left[name] < 0:
                BOUNDS["streaming.max_field"] += 1
                field = name.decode()
                detail = f"The field `{field}` may have at most {limit} bytes."
                return Problem(431, detail, type=TOO_LONG, field=field, limit=limit)
        if name in SINGLE and first.setdefault(name, value) != value:
            return Problem(400, f"The field `{name.decode()}` has two different values.")
    return None
