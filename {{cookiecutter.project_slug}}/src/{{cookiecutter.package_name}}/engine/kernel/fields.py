"""Header fields as RFC 9110 means them: several lines of a list are one list.

Sources: RFC 9110, sections 5.3 (field order), 5.4 (limits) and 5.6.1 (lists); RFC 6585, section 5
(431).
"""

from collections.abc import Iterable

from starlette.datastructures import Headers

#: What a request means cannot be known when two lines of one of these differ. Dates are not among
#: them: a list of dates is not valid, and ignored (RFC 9110, sections 13.1.3 and 13.1.4).
SINGLE = {
    b"authorization", b"content-disposition", b"content-range", b"content-type",
    b"idempotency-key", b"last-event-id", b"x-http-method-override",
}  # fmt: skip

#: Bytes of all lines of a field that is taken apart; ordinary ones have a tenth. The longest is a
#: file name: twice as percent-encoded, its 255 bytes of UTF-8 take 1.5 KiB.
MAX_FIELD = 2 << 10
#: Those of a list of validators or ranges, of which caches send many.
MAX_LIST = 8 << 10
_LIMITS = {
    b"accept": MAX_FIELD, b"accept-charset": MAX_FIELD, b"accept-encoding": MAX_FIELD,
    b"accept-language": MAX_FIELD, b"content-digest": MAX_FIELD,
    b"content-disposition": MAX_FIELD, b"content-encoding": MAX_FIELD,
    b"content-type": MAX_FIELD, b"expect": MAX_FIELD, b"forwarded": MAX_FIELD,
    b"if-match": MAX_LIST, b"if-none-match": MAX_LIST, b"if-range": MAX_FIELD,
    b"prefer": MAX_FIELD, b"range": MAX_LIST, b"repr-digest": MAX_FIELD,
    b"upload-checksum": MAX_FIELD, b"upload-complete": MAX_FIELD, b"upload-length": MAX_FIELD,
    b"upload-offset": MAX_FIELD, b"want-content-digest": MAX_FIELD,
    b"want-repr-digest": MAX_FIELD, b"x-forwarded-for": MAX_FIELD,
    b"x-forwarded-host": MAX_FIELD, b"x-forwarded-proto": MAX_FIELD,
}  # fmt: skip


def combined(headers: Headers) -> dict[str, str]:
    """Return the fields of a request, with all lines of each."""
    fields: dict[str, str] = {}
    for name, value in headers.items():
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def joined(headers: Headers, name: str) -> str:
    """Return all lines of a list field; empty without one."""
    return ", ".join(headers.getlist(name))


def members(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the members of a list of tokens, in lower case; `headers` are those of a scope."""
    lines = [line for key, line in headers if key == name]
    found = (member.strip(b" \t").lower() for line in lines for member in line.split(b","))
    return [member for member in found if member]


def oversized(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, int] | None:
    """Return the name and the limit of a field that has more bytes than are taken apart."""
    left: dict[bytes, int] = {}
    for name, value in headers:
        if limit := _LIMITS.get(name):
            left[name] = left.get(name, limit) - len(value)
            if left[name] < 0:
                return name.decode(), limit
    return None


def ambiguous(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the name of a field that comes twice with different values, and may come only once."""
    first: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in SINGLE and first.setdefault(name, value) != value:
            return name.decode()
    return None
