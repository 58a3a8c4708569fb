"""The edge: what every answer has, whoever gives it.

* Which pages of other origins may use the service, and see what its headers say. Outside of
  everything else, so that a refusal carries the headers too: without them a page is told of a
  network error, whatever went wrong.
* What a browser does with an answer: nothing beyond what the answer itself allows.
* Which methods a path has, where another one is refused; whether it is that of a WebSocket.

Sources: the Fetch standard, sections 3.3 (CORS protocol) and 3.7 (Cross-Origin-Resource-Policy);
Content Security Policy Level 3; RFC 6797 (Strict-Transport-Security); RFC 9110, section 15.5.6.
"""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Route, request_response

from .settings import Settings
from .streaming import ExchangeMiddleware, Kernel, Problem, handshake_flaw
from .streaming.openapi import document_errors

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
#: What ReDoc does beside what its page says.
REDOC = [
    ("font-src", "https://fonts.gstatic.com"),
    ("img-src", "https://cdn.redoc.ly"),
    ("style-src", "'unsafe-inline'"),
    ("worker-src", "blob:"),
]

Page = Callable[[Request], Awaitable[Response]]
Sources = Iterable[tuple[str, str]]

_SCRIPT = re.compile(r'<script(?: src="([^"]*)")?>(.*?)</script>', re.DOTALL)
_LINK = re.compile(r'<link [^>]*href="(https:[^"?]*)[^>]*>')


def install(app: FastAPI, kernel: Kernel, settings: Settings) -> None:
    """Wrap `app`, innermost first, in the kernel and in the rules for pages of other origins."""
    origins = [origin.strip().rstrip("/") for origin in settings.cors.origins.split(",")]
    _add_safety(kernel, any(origins))
    pages: dict[str | None, Sources] = {
        app.docs_url: (),
        app.swagger_ui_oauth2_redirect_url: (),
        app.redoc_url: REDOC,
    }
    for route in app.routes:
        if isinstance(route, Route) and route.path in pages:
            route.app = request_response(_with_policy(route.endpoint, pages[route.path]))
    app.exception_handler(405)(_name_methods)
    app.exception_handler(404)(_ask_for_upgrade)
    document_errors(app, kernel)
    app.add_middleware(ExchangeMiddleware, kernel=kernel)
    if any(origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=86400,
        )


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
        asked = {"type": "http", "path": request.scope["path"], "headers": []}
        found = [
            method
            for method in METHODS
            for route in request.app.routes
            if route.matches({**asked, "method": method})[0] is Match.FULL
        ]
        error.headers = {"Allow": ", ".join(dict.fromkeys(found))}
    response: Response = await request.app.exception_handlers[HTTPException](request, error)
    return response


async def _ask_for_upgrade(request: Request, error: HTTPException) -> Response:
    """Answer 426 or 400 where the path is that of a WebSocket: the router says 404."""
    scope = request.scope
    asked = {"type": "websocket", "path": scope["path"], "headers": []}
    # Whatever else the router has found, such as a mount of files, says 404 itself.
    if "endpoint" not in scope and any(
        route.matches({**asked})[0] is Match.FULL for route in request.app.routes
    ):
        error = HTTPException(405, headers={"Allow": "GET, HEAD"})
        if request.method in ("GET", "HEAD"):
            error = handshake_flaw(scope["http_version"], scope["headers"]) or error
    response: Response = await request.app.exception_handlers[HTTPException](request, error)
    return response


def _with_policy(page: Page, more: Sources) -> Page:
    """Let one of FastAPI's own pages load what it names, and run its own script."""

    async def answer(request: Request) -> Response:
        response = await page(request)
        response.headers["Content-Security-Policy"] = _policy(bytes(response.body).decode(), more)
        return response

    return answer


def _policy(html: str, more: Sources) -> str:
    sources = {"connect-src": ["'self'"], "img-src": ["data:"]}
    links = [
        ("style-src" if "stylesheet" in link[0] else "img-src", link[1])
        for link in _LINK.finditer(html)
    ]
    scripts = [("script-src", src or _hash(text)) for src, text in _SCRIPT.findall(html)]
    for directive, source in (*scripts, *links, *more):
        sources.setdefault(directive, []).append(source)
    return "; ".join([NOTHING, *(" ".join((name, *found)) for name, found in sources.items())])


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
