"""Header fields as RFC 9110 means them: several lines of a list are one list.

Sources: RFC 9110, sections 5.3 (field order) and 5.6.1 (lists).
"""

from collections.abc import Iterable

from starlette.datastructures import Headers

#: What a request means cannot be known when two lines of one of these differ. Dates are not among
#: them: a list of dates is not valid, and ignored (RFC 9110, sections 13.1.3 and 13.1.4).
SINGLE = {
    b"authorization", b"content-disposition", b"content-range", b"content-type",
    b"idempotency-key", b"last-event-id", b"x-http-method-override",
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


def ambiguous(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the name of a field that comes twice with different values, and may come only once."""
    first: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in SINGLE and first.setdefault(name, value) != value:
            return name.decode()
    return None
