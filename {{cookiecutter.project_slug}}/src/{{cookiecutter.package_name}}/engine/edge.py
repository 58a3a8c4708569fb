"""The edge: what every answer has, whoever gives it.

* Which pages of other origins may use the service, and see what its headers say. Outside of
  everything else, so that a refusal carries the headers too: without them a page is told of a
  network error, whatever went wrong.
* By which names the service may be asked for, and which pages may change something (`SiteRules`).
* What a browser does with an answer: nothing beyond what the answer itself allows.
* Which methods a path has, where another one is refused; whether it is that of a WebSocket.

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
from .kernel.kernel import Kernel
from .kernel.measures import BOUNDS
from .kernel.middleware import ExchangeMiddleware, response_of
from .kernel.origins import SENT_HOST, Hosts, Pages, handshake_flaw, is_address, origin_of
from .kernel.problem import Problem, ProblemType
from .settings import ServerSettings, ServiceSettings

#: What a page may read beside the headers that every page may.
EXPOSED = [
    "Accept", "Accept-Encoding", "Accept-Patch", "Accept-Post", "Accept-Ranges", "Allow",
    "Content-Disposition", "Content-Encoding", "Content-Length", "Content-Location",
    "Content-Range", "ETag", "Location", "Repr-Digest", "Retry-After", "Tus-Checksum-Algorithm",
    "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version", "Upload-Complete",
    "Upload-Concat", "Upload-Defer-Length", "Upload-Expires", "Upload-Length", "Upload-Limit",
    "Upload-Metadata", "Upload-Offset", "X-Request-ID",
]  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: A Content-Security-Policy.
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
#: A year, in seconds.
HSTS = "max-age=31536000"

UNKNOWN_HOST = ProblemType(
    "unknown-host",
    "The service is not known by this name",
    "`Host` is no name or address that the service may be asked for by, so that no page of a name"
    " that somebody else owns can read from it. Use its own name; its operator sets what that is"
    " (`APP_SERVER__ALLOWED_HOSTS`, `APP_SERVER__PUBLIC_URL`).",
)
FOREIGN_PAGE = ProblemType(
    "foreign-page",
    "Pages of this origin may not use the service",
    "A page of another origin has sent this, as `Sec-Fetch-Site` or `Origin` says, and nothing was"
    " done. The operator of the service sets which origins may (`APP_CORS__ORIGINS`).",
)
PROBLEM_TYPES = (UNKNOWN_HOST, FOREIGN_PAGE)
#: What a server listens on that listens on all addresses.
EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104
#: The ends of a request by `TestClient`, which has no socket: no client has such an address.
TEST_CLIENT, TEST_SERVER = "testclient", b"testserver"
#: Asked by machines that know an address and no name.
PROBES, METRICS = "/health/", "/metrics"


def install(app: FastAPI) -> None:
    """Say which methods a path has, and what a WebSocket needs."""
    app.exception_handler(405)(_name_methods)
    app.exception_handler(404)(_ask_for_upgrade)


def around(kernel: Kernel, settings: ServiceSettings) -> list[Middleware]:
    """Return what goes around an application, outermost first."""
    origins = [origin_of(each) for each in settings.cors.origins.split(",")]
    _add_safety(kernel, any(origins))
    layers = [
        Middleware(ExchangeMiddleware, kernel=kernel),
        Middleware(
            SiteRules,
            kernel=kernel,
            hosts=Hosts(_known_hosts(settings.server)),
            pages=Pages(settings.server.public_url, origins),
        ),
    ]
    if any(origins):
        cors = Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=86400,
        )
        layers.insert(0, cors)
    return layers


class SiteRules:
    """Pure ASGI: refuse other names with 421, and changes by foreign pages with 403."""

    def __init__(self, app: ASGIApp, kernel: Kernel, hosts: Hosts, pages: Pages) -> None:
        self.app = app
        self.kernel = kernel
        self.hosts = hosts
        self.pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] != "lifespan":
            if not self._is_known(scope):
                BOUNDS["server.allowed_hosts"] += 1
                detail = "The service may not be asked for by the name in Host."
                app = self._refusal(Problem(421, detail, type=UNKNOWN_HOST), scope)
            elif not self.pages.may_send(scope):
                BOUNDS["cors.origins"] += 1
                detail = "Pages of this origin may not use the service."
                app = self._refusal(Problem(403, detail, type=FOREIGN_PAGE), scope)
        await app(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        """Whether Host is allowed, the one that a proxy has sent as well as the one it tells of."""
        sent = scope.get(SENT_HOST)
        if sent is not None and not self._may_be(sent, scope):
            return False
        for name, value in scope["headers"]:
            if name == b"host" and not self._may_be(value, scope):
                return False
        return True  # Without a Host it is no browser.

    def _may_be(self, host: bytes, scope: Scope) -> bool:
        if self.hosts.allow(host):
            return True
        if host == TEST_SERVER and (scope.get("client") or [""])[0] == TEST_CLIENT:
            return True
        path = scope["path"]
        return path.startswith(PROBES) or (path == METRICS and is_address(host))

    def _refusal(self, problem: Problem, scope: Scope) -> ASGIApp:
        return self.kernel.response_to(problem, exchange_of(scope))


def _known_hosts(server: ServerSettings) -> list[str]:
    """Return the hosts of the settings beside those of the loopback interface."""
    own = [] if server.host in EVERY_ADDRESS else [server.host]
    public = urlsplit(server.public_url or "").netloc
    return [*server.allowed_hosts.split(","), public, *own]


def _add_safety(kernel: Kernel, other_origins: bool) -> None:
    safety = {
        "x-content-type-options": "nosniff",
        "content-security-policy": NOTHING,
        "referrer-policy": "no-referrer",
        # An <img> makes no request of CORS: only this lets a page of another origin show one.
        "cross-origin-resource-policy": "cross-origin" if other_origins else "same-origin",
    }
    for scheme in ("http", "https", "ws", "wss"):
        secure = {"strict-transport-security": HSTS} if scheme in ("https", "wss") else {}
        kernel.headers[scheme] = [
            (name.encode(), value.encode()) for name, value in (safety | secure).items()
        ]


async def _name_methods(request: Request, error: HTTPException) -> Response:
    """Answer 405 with all methods of the path: the router names those of one route."""
    if not isinstance(error, Problem):
        asked = {**_place_of(request), "type": "http"}
        found = [
            method
            for method in METHODS
            for route in request.app.routes
            if route.matches({**asked, "method": method})[0] is Match.FULL
        ]
        error.headers = {**(error.headers or {}), "Allow": ", ".join(dict.fromkeys(found))}
    return await _response_to(request, error)


def _place_of(request: Request) -> dict[str, Any]:
    """Return what routes compare of a request, also of one to a mounted application."""
    scope = request.scope
    return {"path": scope["path"], "root_path": scope.get("root_path", ""), "headers": []}


async def _ask_for_upgrade(request: Request, error: HTTPException) -> Response:
    """Answer 426 or 400 where the path is that of a WebSocket: the router says 404."""
    scope = request.scope
    asked = {**_place_of(request), "type": "websocket"}
    # Whatever else the router has found, such as a mount of files, says 404 itself.
    if "endpoint" not in scope and any(
        route.matches({**asked})[0] is Match.FULL for route in request.app.routes
    ):
        error = HTTPException(405, headers={"Allow": "GET, HEAD"})
        if request.method in ("GET", "HEAD"):
            error = handshake_flaw(scope["http_version"], scope["headers"]) or error
    return await _response_to(request, error)


async def _response_to(request: Request, error: HTTPException) -> Response:
    """Return the response of the handler for the class of the error, which may be the owner's."""
    handlers = request.app.exception_handlers
    handler = next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)
    return await response_of(handler, request, error)
