"""Checks of headers that httptools accepts, although RFC 9112 requires or allows to refuse them.

Sources: RFC 9112, sections 3.2 (target and Host) and 6.1 (Transfer-Encoding); RFC 9110, section
7.8 (Upgrade).
"""

import re

from ..kernel.fields import members
from ..kernel.origins import handshake_flaw

Headers = list[tuple[bytes, bytes]]

BAD_REQUEST = b"400 Bad Request"
TOO_LARGE = b"431 Request Header Fields Too Large"
NOT_IMPLEMENTED = b"501 Not Implemented"
#: A name or an address, and a port (RFC 3986, section 3.2).
AUTHORITY = re.compile(rb"([\w.~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(:\d*)?", re.ASCII)
_END_OF_AUTHORITY = re.compile(rb"[/?]")


def refusal(method: bytes, version: str, target: bytes, headers: Headers) -> bytes | None:
    """Return the status that refuses a request, or None.

    If the target is absolute, its host replaces the Host in `headers` (section 3.2.2).
    """
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if version not in ("1.1", "1.0"):
        return b"505 HTTP Version Not Supported"
    if method == b"CONNECT":
        return NOT_IMPLEMENTED
    if codings and version == "1.0":
        return BAD_REQUEST
    if codings and codings != [b"chunked"]:
        return NOT_IMPLEMENTED
    if target[:1] not in (b"/", b"*"):
        host = _replace_host(target, headers)
        if not AUTHORITY.fullmatch(host):
            return BAD_REQUEST
        hosts = [host] * len(hosts)
    if len(hosts) != 1 and (hosts or version == "1.1"):
        return BAD_REQUEST
    if not all(map(AUTHORITY.fullmatch, hosts)) or b"#" in target:
        return BAD_REQUEST
    return None


def _replace_host(target: bytes, headers: Headers) -> bytes:
    """Return the host of an absolute target, after replacing Host with it."""
    scheme, _, rest = target.partition(b"://")
    if scheme.lower() not in (b"http", b"https"):
        return b""
    host = _END_OF_AUTHORITY.split(rest)[0]
    headers[:] = [(name, host if name == b"host" else value) for name, value in headers]
    return host


def size_of(target: bytes, headers: Headers) -> int:
    """Return the minimum number of bytes that the target and the headers take."""
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)


def is_handshake(version: str, headers: Headers) -> bool:
    """Return whether the headers are a valid handshake for a WebSocket."""
    offers = members(headers, b"upgrade")
    is_offer = version == "1.1" and offers == [b"websocket"]
    return is_offer and handshake_flaw(version, headers) is None


def has_body(headers: Headers) -> bool:
    fields = dict(headers)
    return b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"


def declared_length(headers: Headers) -> int:
    """Return the length of the body; 0 without a body, and for an unknown length."""
    fields = dict(headers)
    return 0 if b"transfer-encoding" in fields else int(fields.get(b"content-length", b"0"))
