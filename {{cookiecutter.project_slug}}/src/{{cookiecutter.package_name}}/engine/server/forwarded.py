"""What trusted proxies say of a request: its client, its scheme, and the host that was asked for.

uvicorn takes the client of X-Forwarded-For and the scheme of X-Forwarded-Proto. This adds the host,
lists of all three, and Forwarded. X-Forwarded-* wins over that: a proxy that sets the one mostly
passes the other on as its client has sent it. X-Forwarded-Port is left alone: a host has its port.

Of a list the last member is of the proxy that we talk to, the one before of the proxy before that,
if that one is trusted too. Source: RFC 7239, sections 4 to 6.
"""

import re
from itertools import takewhile
from typing import Any

from uvicorn import config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _parse_host_port

from ..kernel.fields import MAX_FIELD
from ..kernel.origins import SENT_HOST
from .head import AUTHORITY

Fields = list[tuple[bytes, bytes]]

_NAMES = {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
#: `name=value` or nothing, then a separator. Many send a host and port without the quotes.
_PAIR = re.compile(
    rb"[ \t]*(?:([\w!#$%&'*+.^`|~-]+)=(\"(?:[^\"\\]|\\.)*\"|[^ \t\",;=]+)[ \t]*)?([,;]|\Z)"
)
_ESCAPED = re.compile(rb"\\(.)")
#: An address or a token, and a port.
_NODE = re.compile(rb"[\w.:\[\]-]+")


class Forwarded(ProxyHeadersMiddleware):
    """uvicorn's middleware, which it puts around the application for HTTP and WebSockets alike."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        client = scope.get("client")
        if scope["type"] != "lifespan" and (client[0] if client else None) in self.trusted_hosts:
            told = [field for field in scope["headers"] if field[0] in _NAMES]
            if any(len(value) > MAX_FIELD for _, value in told):
                await self.app(scope, receive, send)  # It refuses them.
                return
            if told:
                # Anyone on this machine has the address of a proxy here, a page in a browser too.
                scope[SENT_HOST] = next((v for n, v in scope["headers"] if n == b"host"), None)
                scope["headers"] = self._resolve(scope["headers"], told)
        await super().__call__(scope, receive, send)

    def _resolve(self, headers: Fields, told: Fields) -> Fields:
        """Return headers with the host that the client has asked for, and what uvicorn reads."""
        lines: dict[bytes, list[bytes]] = {}
        for name, value in told:
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
        proxies = self._trusted(parts[0])
        client, scheme, host = (next(filter(None, part[-proxies:]), b"") for part in parts)
        if AUTHORITY.fullmatch(host):
            headers = [field for field in headers if field[0] != b"host"] + [(b"host", host)]
        if not lists and _NODE.fullmatch(client):
            headers = [*headers, (b"x-forwarded-for", client)]
        return [*headers, (b"x-forwarded-proto", scheme.lower())] if scheme else headers

    def _trusted(self, clients: list[bytes]) -> int:
        """Return how many proxies are trusted, from the last one on, given the client of each."""
        addresses = (_parse_host_port(client.decode("latin-1"))[0] for client in reversed(clients))
        return 1 + len(list(takewhile(self.trusted_hosts.__contains__, addresses)))


def parse(field: bytes) -> list[dict[bytes, bytes]]:
    """Return the elements of a Forwarded field; none when it is malformed."""
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


def install() -> None:
    """Let uvicorn use this class in the place of its own."""
    config.ProxyHeadersMiddleware = Forwarded  # type: ignore[attr-defined]  # It has no option.
