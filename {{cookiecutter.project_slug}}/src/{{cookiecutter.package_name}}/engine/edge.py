"""The edge: rules for every request and response, whichever route handles it.

* CORS: the pages of allowed origins may use the service and read its headers. This middleware is
  the outermost: without its headers a page sees errors as network errors.
* `SiteRules`: the allowed values of Host, and the pages that may change something.
* Headers that restrict how a browser uses a response.
* A 405 lists all methods of the path. A plain GET of a WebSocket gets 426 or 400 instead of 404.

Sources: the Fetch standard, sections 3.3 (CORS protocol) and 3.7 (Cross-Origin-Resource-Policy);
Content Security Policy Level 3; RFC 6797 (Strict-Transport-Security); RFC 9110, section 15.5.6.
"""

from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from .kernel.exchange import exchange_of
from .kernel.kernel import BOUNDS, Kernel
from .kernel.middleware import ExchangeMiddleware, response_of
from .kernel.origins import SENT_HOST, Hosts, Pages, handshake_flaw, is_address, origin_of
from .kernel.problem import Problem, ProblemType
from .settings import ServiceSettings

#: Headers that pages of other origins may read, in addition to those that CORS always permits.
EXPOSED = [
    "Accept", "Accept-Encoding", "Accept-Patch", "Accept-Post", "Accept-Ranges", "Allow",
    "Content-Disposition", "Content-Encoding", "Content-Length", "Content-Location",
    "Content-Range", "ETag", "Location", "Repr-Digest", "Retry-After", "Tus-Checksum-Algorithm",
    "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version", "Upload-Complete",
    "Upload-Concat", "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Limit",
    "Upload-Metadata", "Upload-Offset", "X-Request-ID",
]  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: The Content-Security-Policy of responses that set none.
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
#: One year, in seconds.
HSTS = "max-age=31536000"

UNKNOWN_HOST = ProblemType(
    "unknown-host",
    "The service is not known by this name",
    "`Host` is not a name or an address of the service. Other names are rejected, because a web"
    " page whose name resolves to the address of the service could read its responses. Use a name"
    " that the operator has allowed (`APP_SERVER__ALLOWED_HOSTS`, `APP_SERVER__PUBLIC_URL`).",
)
FOREIGN_PAGE = ProblemType(
    "foreign-page",
    "Pages of this origin may not use the service",
    "According to `Sec-Fetch-Site` or `Origin`, a page of another origin sent the request, so the"
    " service did nothing. The operator of the service sets the allowed origins"
    " (`APP_CORS__ORIGINS`).",
)
#: Values of `host` that mean all addresses of the machine.
EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104
#: The client and the Host of requests by Starlette's `TestClient`. Clients on a socket have an IP
#: address instead.
TEST_CLIENT, TEST_SERVER = "testclient", b"testserver"
#: Paths of probes and monitors, which often use the address of the service instead of its name.
PROBES, METRICS = "/health/", "/metrics"


def install(app: FastAPI) -> None:
    """Add the handlers of 404 and 405."""
    app.exception_handler(405)(_name_methods)
    app.exception_handler(404)(_ask_for_upgrade)


def around(kernel: Kernel, settings: ServiceSettings) -> list[Middleware]:
    """Return the middleware of the engine, outermost first."""
    server = settings.server
    origins = [origin_of(each) for each in settings.cors.origins.split(",")]
    cross_origin = any(origins)
    _set_headers(kernel, cross_origin)
    own = [] if server.host in EVERY_ADDRESS else [server.host]
    public = urlsplit(server.public_url or "").netloc
    hosts = Hosts([*server.allowed_hosts.split(","), public, *own])
    pages = Pages(server.public_url, origins)
    layers = [
        Middleware(ExchangeMiddleware, kernel=kernel),
        Middleware(SiteRules, kernel=kernel, hosts=hosts, pages=pages),
    ]
    if cross_origin:
        options: dict[str, Any] = {"allow_methods": ["*"], "allow_headers": ["*"], "max_age": 86400}
        options |= {"allow_origins": origins, "expose_headers": EXPOSED}
        layers.insert(0, Middleware(CORSMiddleware, **options))
    return layers


class SiteRules:
    """Pure ASGI: refuses unknown hosts with 421, and changes by pages of other origins with 403."""

    def __init__(self, app: ASGIApp, kernel: Kernel, hosts: Hosts, pages: Pages) -> None:
        self.app = app
        self.kernel = kernel
        self.hosts = hosts
        self.pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] != "lifespan" and (problem := self._problem_of(scope)):
            app = self.kernel.response_to(problem, exchange_of(scope))
        await app(scope, receive, send)

    def _problem_of(self, scope: Scope) -> Problem | None:
        # Check both the Host that a proxy reports and the one that it sent itself. A request
        # without Host is allowed, because browsers always send it.
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if SENT_HOST in scope:
            hosts.append(scope[SENT_HOST])
        if not all(self._may_be(host, scope) for host in hosts):
            BOUNDS["server.allowed_hosts"] += 1
            return Problem(421, "Host is not a name of the service.", type=UNKNOWN_HOST)
        if not self.pages.may_send(scope):
            BOUNDS["cors.origins"] += 1
            detail = "Pages of this origin may not use the service."
            return Problem(403, detail, type=FOREIGN_PAGE)
        return None

    def _may_be(self, host: bytes, scope: Scope) -> bool:
        if self.hosts.allow(host):
            return True
        if host == TEST_SERVER and (scope.get("client") or [""])[0] == TEST_CLIENT:
            return True
        path = scope["path"]
        return path.startswith(PROBES) or (path == METRICS and is_address(host))


def _set_headers(kernel: Kernel, cross_origin: bool) -> None:
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", NOTHING.encode()),
        (b"referrer-policy", b"no-referrer"),
        # CORS does not apply to <img>: only this lets a page of another origin show an image.
        (b"cross-origin-resource-policy", b"cross-origin" if cross_origin else b"same-origin"),
    ]
    secure = [*headers, (b"strict-transport-security", HSTS.encode())]
    kernel.headers = {"http": headers, "ws": headers, "https": secure, "wss": secure}


async def _name_methods(request: Request, error: HTTPException) -> Response:
    """Respond with 405 and all methods of the path; the router lists those of one route only."""
    if not isinstance(error, Problem):
        allowed = [each for each in METHODS if _has_route(request, type="http", method=each)]
        error.headers = {**(error.headers or {}), "Allow": ", ".join(allowed)}
    return await _response_to(request, error)


async def _ask_for_upgrade(request: Request, error: HTTPException) -> Response:
    """Respond with 426, 400 or 405 if the path is that of a WebSocket; the router sends 404."""
    # If the router has found an endpoint, such as a mounted folder, the 404 comes from that.
    if "endpoint" not in request.scope and _has_route(request, type="websocket"):
        error = HTTPException(405, headers={"Allow": "GET, HEAD"})
        if request.method in ("GET", "HEAD"):
            scope = request.scope
            error = handshake_flaw(scope["http_version"], scope["headers"]) or error
    return await _response_to(request, error)


def _has_route(request: Request, **asked: str) -> bool:
    """Whether the application, which may be mounted in another one, has a route for a request."""
    scope = request.scope
    place = {"path": scope["path"], "root_path": scope.get("root_path", ""), "headers": []}
    return any(route.matches({**place, **asked})[0] is Match.FULL for route in request.app.routes)


async def _response_to(request: Request, error: HTTPException) -> Response:
    """Call the handler for the class of the error, which may be the owner's."""
    handlers = request.app.exception_handlers
    handler = next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)
    return await response_of(handler, request, error)
