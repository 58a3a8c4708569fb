"""The names of the service, and the origins of the pages that may change something in it.

Any page can make a browser send requests. The browser identifies the page in fields that the page
cannot set:

* `Host`. DNS rebinding points the attacker's name at the address of the service, so that responses
  belong to the attacker's origin; `Host` still has the attacker's name.
* `Sec-Fetch-Site`, and `Origin` in browsers without it. Browsers send forms and simple fetches
  without a CORS preflight.

Sources: RFC 9110, sections 4.2.3 (normalisation), 7.2 (Host) and 15.5.20 (421); RFC 6761, section
6.3 (localhost); RFC 6454, section 7 (Origin); Fetch Metadata Request Headers, section 2.3. For
handshakes: RFC 6455, sections 4.2.1 and 4.4 (another version); RFC 9110, section 15.5.22 (426).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.datastructures import URL
from starlette.types import Scope

from .problem import Problem

#: The key in the scope of the Host that a proxy sent itself, if it reports another one.
SENT_HOST = "sent_host"
#: The number of values of Host in the cache, and the maximum bytes of one: a DNS name has at most
#: 253.
CACHED, LONGEST = 256, 300

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+)(?::(\d*))?", re.ASCII)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}
_OWN_SITES = {b"same-origin", b"none"}
#: 16 bytes in base64.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_VERSION = b"13"
#: The headers of a 426.
_UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


class Hosts:
    """The names and addresses that requests may have in Host, with any port."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """`allowed` are names and addresses; `*.example.com` allows subdomains, `*` all names."""
        names = {each.strip().lower() for each in allowed} - {""}
        self._all = "*" in names
        self._below = (".localhost", *(each[1:] for each in names if each.startswith("*.")))
        self._names = {"localhost", *filter(None, map(_name, names))}
        self._allow = lru_cache(CACHED)(self._decide)

    def allow(self, authority: bytes) -> bool:
        """Whether Host may have this value."""
        return self._all or (len(authority) <= LONGEST and self._allow(authority))

    def _decide(self, authority: bytes) -> bool:
        name = _name(authority.decode("latin-1"))
        if name is None:
            return False
        address = address_of(name)
        is_loopback = address is not None and address.is_loopback
        return is_loopback or name in self._names or name.endswith(self._below)


class Pages:
    """The pages that may change something: the service's own, and those of allowed origins."""

    def __init__(self, public_url: str | None, others: Iterable[str]) -> None:
        self._allowed = {origin_of(each) for each in (public_url, *others) if each}

    def may_send(self, scope: Scope) -> bool:
        """Whether the page that the header fields identify, if any, may send this request."""
        is_websocket = scope["type"] == "websocket"
        if not is_websocket and scope["method"] in _SAFE:
            return True  # The page cannot read the response.
        fields: dict[bytes, list[bytes]] = {b"origin": [], b"sec-fetch-site": [], b"host": []}
        for name, value in scope["headers"]:
            if name in fields:
                fields[name].append(value)
        pages, sites, host = fields.values()
        if not (pages or sites) or "*" in self._allowed:
            return True
        origins = {origin_of(page.decode("latin-1")) for page in pages}
        if origins and origins <= self._allowed:
            return True
        if not _OWN_SITES.issuperset(sites):
            return False
        if sites and not is_websocket:
            return True  # Even if a proxy has replaced Host.
        return all(_is_own(origin, host, scope["scheme"]) for origin in origins - self._allowed)


def base_of(scope: Scope) -> str:
    """Return the URL of the application, without a trailing slash.

    It is `APP_SERVER__PUBLIC_URL`, or else the origin of the request and the path at which a proxy
    or another application has mounted this one (`root_path` of ASGI).
    """
    public_url: str | None = scope["app"].state.settings.server.public_url
    root = {**scope, "path": scope.get("root_path") or "/", "query_string": b""}
    return public_url or str(URL(scope=root)).rstrip("/")


def address_of(name: str) -> IPv4Address | IPv6Address | None:
    """Return a host as an IP address, or None if it is a name."""
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        return None
    return (address.version == 6 and address.ipv4_mapped) or address


def is_local(host: str) -> bool:
    """Whether only clients on the same machine reach a server that listens on this host."""
    return Hosts(()).allow(host.encode())


def is_address(authority: bytes) -> bool:
    """Whether Host is an IP address, which DNS rebinding cannot change."""
    name = _name(authority.decode("latin-1"))
    return name is not None and address_of(name) is not None


def origin_of(url: str) -> str:
    """Return the origin of a URL as browsers write it; other text is returned as it is."""
    scheme, separator, rest = url.strip().lower().partition("://")
    match = _AUTHORITY.fullmatch(rest.partition("/")[0])
    if not (separator and match):
        return scheme + separator + rest
    port = match[2] or ""
    default = port in ("", _DEFAULT_PORTS.get(scheme))
    return f"{scheme}://{_normal(match[1])}" + ("" if default else f":{port}")


def _is_own(origin: str, hosts: list[bytes], scheme: str) -> bool:
    """Whether the origin of a page is that of the service, by the Host of the request.

    A proxy may terminate TLS without reporting it, so an https page is always accepted, and an http
    page only if the request came without TLS.
    """
    page_scheme = origin.partition("://")[0]
    if page_scheme not in ({"https"} if scheme in ("https", "wss") else {"https", "http"}):
        return False
    return [origin] == [origin_of(f"{page_scheme}://{host.decode('latin-1')}") for host in hosts]


def _name(authority: str) -> str | None:
    """Return the normalised host of an authority, None if it has none."""
    match = _AUTHORITY.fullmatch(authority.lower())
    return _normal(match[1]) if match else _bare(authority)


def _normal(name: str) -> str:
    if name.startswith("["):
        return _bare(name[1:-1]) or name
    return name.removesuffix(".")


def _bare(name: str) -> str | None:
    """Return an IPv6 address in brackets; settings may contain it without them."""
    try:
        return f"[{IPv6Address(name)}]"
    except ValueError:
        return None


def handshake_flaw(http_version: str, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
    """Return Problem 426 or 400 for a request that is not a valid handshake of a WebSocket."""
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name, []).append(value.strip(b" \t"))
    upgrades = {value.lower() for value in fields.get(b"upgrade", [])}
    if http_version == "1.0" or upgrades != {b"websocket"}:
        return Problem(426, "This is a WebSocket: request the upgrade.", headers=_UPGRADE)
    if fields.get(b"sec-websocket-version") != [_VERSION]:
        return Problem(426, "The version of WebSockets must be 13.", headers=_UPGRADE)
    keys = fields.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        return Problem(400, "Sec-WebSocket-Key must be 16 bytes in base64.")
    return None
