"""The client, scheme and host that trusted proxies report.

uvicorn reads the client from X-Forwarded-For and the scheme from X-Forwarded-Proto. This middleware
adds the host, lists of all three, and Forwarded. X-Forwarded-* takes precedence over Forwarded: a
proxy that sets the former usually passes on the latter as the client sent it. X-Forwarded-Port is
ignored, because the host includes the port.

The last member of a list was added by the proxy that sent the request. The member before it was
added by the previous proxy, and counts if that proxy is trusted too. Source: RFC 7239, sections 4
to 6.
"""

import re
from itertools import takewhile
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _parse_host_port

from ..kernel.fields import MAX_FIELD
from ..kernel.origins import SENT_HOST
from .request_headers import AUTHORITY, Headers

_NAMES = {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
#: `name=value` or nothing, then a separator. Many proxies send a host and port without the quotes.
_PAIR = re.compile(
    rb"[ \t]*(?:([\w!#$%&'*+.^`|~-]+)=(\"(?:[^\"\\]|\\.)*\"|[^ \t\",;=]+)[ \t]*)?([,;]|\Z)"
)
_ESCAPED = re.compile(rb"\\(.)")
#: An address or a token, and a port.
_NODE = re.compile(rb"[\w.:\[\]-]+")


class Forwarded(ProxyHeadersMiddleware):
    """uvicorn's middleware, with the host and with Forwarded; for HTTP and WebSockets."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        client = scope.get("client")
        if scope["type"] != "lifespan" and (client[0] if client else None) in self.trusted_hosts:
            reported = [field for field in scope["headers"] if field[0] in _NAMES]
            if any(len(value) > MAX_FIELD for _, value in reported):
                await self.app(scope, receive, send)  # The kernel refuses the request.
                return
            if reported:
                # Programs on this machine, even pages in its browsers, may have the address of a
                # trusted proxy, so the Host that was sent is checked as well.
                scope[SENT_HOST] = next((v for n, v in scope["headers"] if n == b"host"), None)
                scope["headers"] = self._resolve(scope["headers"], reported)
        await super().__call__(scope, receive, send)

    def _resolve(self, headers: Headers, reported: Headers) -> Headers:
        """Return headers with the host that the client requested, and the fields for uvicorn."""
        lines: dict[bytes, list[bytes]] = {}
        for name, value in reported:
            lines.setdefault(name, []).append(value)
        lists = {name: b",".join(values) for name, values in lines.items()}
        forwarded = parse(lists.pop(b"forwarded", b""))
        if lists:
            names = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
            parts = [
                [part.strip(b" \t") for part in lists.get(name, b"").split(b",")] for name in names
            ]
        else:
            parts = [
                [each.get(name, b"") for each in forwarded] for name in (b"for", b"proto", b"host")
            ]
        proxies = self._count_trusted(parts[0])
        client, scheme, host = (next(filter(None, part[-proxies:]), b"") for part in parts)
        if AUTHORITY.fullmatch(host):
            headers = [field for field in headers if field[0] != b"host"] + [(b"host", host)]
        if not lists and _NODE.fullmatch(client):
            headers = [*headers, (b"x-forwarded-for", client)]
        return [*headers, (b"x-forwarded-proto", scheme.lower())] if scheme else headers

    def _count_trusted(self, clients: list[bytes]) -> int:
        """Return the number of trusted proxies, from the last one on, given the client of each."""
        addresses = (_parse_host_port(client.decode("latin-1"))[0] for client in reversed(clients))
        return 1 + len(list(takewhile(self.trusted_hosts.__contains__, addresses)))


def parse(field: bytes) -> list[dict[bytes, bytes]]:
    """Return the elements of a Forwarded field; none if it is malformed."""
    elements: list[dict[bytes, bytes]] = [{}]
    position = 0
    while position < len(field):
        match = _PAIR.match(field, position)
        if match is None:
            return []
        name, value, separator = match.groups()
        if name is not None:
            is_quoted = value.startswith(b'"')
            elements[-1][name.lower()] = _ESCAPED.sub(rb"\1", value[1:-1]) if is_quoted else value
        if separator == b",":
            elements.append({})
        position = match.end()
    return list(filter(None, elements))
