"""`/docs` and `/redoc`: FastAPI's pages, with scripts and styles that the service serves.

FastAPI loads these from a CDN: its pages are blank without internet access, and run scripts of
another server. The files are those of the package `fastapi-offline`, of which nothing else is used.
`APP_SERVER__DOCS=false` disables the pages and the OpenAPI documents.

Source: Content Security Policy Level 3, section 6.7 (nonces).
"""

import secrets
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import (
    get_redoc_html,
    get_swagger_ui_html,
    get_swagger_ui_oauth2_redirect_html,
)
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.routing import Route, request_response

#: The pages may run scripts with the nonce, read from the service, and show its images.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " connect-src 'self'; img-src 'self' data:; script-src 'nonce-{nonce}'; style-src {styles}"
)
#: ReDoc creates style sheets, and searches in a worker.
REDOC_POLICY = POLICY.replace("{styles}", "'unsafe-inline'") + "; worker-src blob:"
SWAGGER_POLICY = POLICY.replace("{styles}", "'self'")

Page = Callable[[Request], Awaitable[Response]]


def install(app: FastAPI) -> None:
    """Replace FastAPI's enabled pages, and serve their files below the path of the first."""
    first = app.docs_url or app.redoc_url
    if not app.openapi_url or not first:
        return
    assets = f"{first}/assets"
    pages: dict[str | None, Page] = {
        app.docs_url: _swagger_ui(app, assets),
        app.swagger_ui_oauth2_redirect_url: _redirect,
        app.redoc_url: _redoc(app, assets),
    }
    for route in app.routes:
        if isinstance(route, Route) and route.path in pages:
            route.app = request_response(pages[route.path])
    app.mount(assets, StaticFiles(packages=[("fastapi_offline", "static")]), name="docs assets")


def _swagger_ui(app: FastAPI, assets: str) -> Page:
    async def page(request: Request) -> Response:
        prefix = _prefix_of(request)
        redirect = app.swagger_ui_oauth2_redirect_url
        html = get_swagger_ui_html(
            openapi_url=f"{prefix}{app.openapi_url}",
            title=f"{app.title} - Swagger UI",
            oauth2_redirect_url=f"{prefix}{redirect}" if redirect else None,
            init_oauth=app.swagger_ui_init_oauth,
            swagger_ui_parameters=app.swagger_ui_parameters,
            swagger_js_url=f"{prefix}{assets}/swagger-ui-bundle.js",
            swagger_css_url=f"{prefix}{assets}/swagger-ui.css",
            swagger_favicon_url=f"{prefix}{assets}/favicon.png",
        )
        return _under_policy(html, SWAGGER_POLICY)

    return page


def _redoc(app: FastAPI, assets: str) -> Page:
    async def page(request: Request) -> Response:
        prefix = _prefix_of(request)
        html = get_redoc_html(
            openapi_url=f"{prefix}{app.openapi_url}",
            title=f"{app.title} - ReDoc",
            redoc_js_url=f"{prefix}{assets}/redoc.standalone.js",
            redoc_favicon_url=f"{prefix}{assets}/favicon.png",
            with_google_fonts=False,
        )
        return _under_policy(html, REDOC_POLICY)

    return page


async def _redirect(request: Request) -> Response:
    return _under_policy(get_swagger_ui_oauth2_redirect_html(), SWAGGER_POLICY)


def _prefix_of(request: Request) -> str:
    prefix: str = request.scope.get("root_path", "")
    return prefix.rstrip("/")


def _under_policy(page: HTMLResponse, policy: str) -> HTMLResponse:
    """Add the random nonce of the policy to the scripts of a page."""
    nonce = secrets.token_urlsafe(16)
    html = bytes(page.body).decode().replace("<script", f'<script nonce="{nonce}"')
    headers = {"Content-Security-Policy": policy.replace("{nonce}", nonce)}
    return HTMLResponse(html, headers=headers)
