"""Every route is public, or refuses requests without a valid key and scope."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, Security, WebSocket
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from fastapi.staticfiles import StaticFiles
from starlette.routing import Match, Mount, Route, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.openapi import scopes_of
from {{cookiecutter.package_name}}.engine.access.store import KeyStore
from {{cookiecutter.package_name}}.engine.kernel import (
    Principal,
    current_principal,
    public,
)

from ..service import Service
from .keys import headers_of, store_of

#: The routes that need no key, besides those of the owner.
PUBLIC = {
    "/", "/docs", "/docs/assets", "/docs/oauth2-redirect", "/health/live", "/health/ready",
    "/openapi-3.2.json", "/openapi.json", "/problems", "/problems/{name}", "/redoc",
    "/web/access.js", "/web/app.js", "/web/cases.js", "/web/chart.js", "/web/chat.js",
    "/web/files.js", "/web/gallery.js", "/web/page.js", "/web/pending.js", "/web/preview.js",
    "/web/requests.js", "/web/runs.js", "/web/selection.js", "/web/stream.js", "/web/style.css",
    "/web/topics.js", "/web/transfer.js", "/web/transports.js", "/web/uploads.js",
}  # fmt: skip
#: Routes of the protocols of uploads: a client asks what the service supports.
DISCOVERED = {"/files", "/uploads", "/uploads/", "/uploads/{upload_id}"}
Reader = Annotated[Principal, Security(current_principal, scopes=["reports:read"])]


class Narrow(APIRoute):
    """A route that leaves requests to the next one."""

    def matches(self, scope: Any) -> Any:
        return Match.NONE, {}


def owners() -> APIRouter:
    """The routes of an owner, of each kind."""
    router = APIRouter()

    @router.get("/own/undecided")
    async def undecided() -> str:
        return "undecided"

    @router.get("/own/open")
    @public
    async def opened() -> str:
        return "open"

    # It also matches the path of the first route, which is not public.
    @router.get("/own/{name}")
    @public
    async def named(name: str) -> str:
        return name

    @router.get("/reports")
    async def reports(reader: Reader) -> str:
        return reader.id

    @public
    async def narrowed() -> str:
        return "open"

    router.add_api_route("/own/narrow/path", narrowed, route_class_override=Narrow)

    @router.get("/own/narrow/path")
    async def behind() -> str:
        return "behind"

    @router.websocket("/own/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    async def plain(request: Any) -> PlainTextResponse:
        return PlainTextResponse("plain")

    router.routes.append(Route("/own/plain/route", plain))
    return router


@pytest.fixture
async def service(serve: Callable[..., Any], tmp_path: Path) -> Service:
    (tmp_path / "static").mkdir()
    (tmp_path / "static/a.txt").write_text("a")
    router = owners()
    router.mount("/own/private", StaticFiles(directory=tmp_path / "static"))
    router.mount("/own/static", public(StaticFiles(directory=tmp_path / "static")))
    inner = FastAPI()

    @inner.get("/")
    async def index() -> str:
        return "inner"

    router.mount("/own/app", inner)
    started: Service = await serve(router)
    return started


def contexts(service: Service) -> list[RouteContext]:
    return list(iter_route_contexts(service.app.routes))


def requests_of(service: Service) -> Iterator[tuple[str, str, RouteContext]]:
    """Yield method, path and context of every route, with an example of each parameter."""
    for context in contexts(service):
        route = context.original_route
        path = str(context.path)
        if isinstance(route, Mount):
            yield "GET", f"{path}/a.txt", context
        elif not isinstance(route, WebSocketRoute):
            example = path
            for name in getattr(route, "param_convertors", {}):
                example = example.replace("{" + name + "}", "x")
            for method in sorted(context.methods or ()):
                yield method, example, context


def is_open(method: str, context: RouteContext) -> bool:
    path = str(context.path)
    is_owners = path in ("/own/open", "/own/{name}", "/own/static")
    return path in PUBLIC or is_owners or (method == "OPTIONS" and path in DISCOVERED)


def wrong_headers(service: Service, other: KeyStore) -> dict[str, dict[str, str]]:
    """Return headers that no route accepts, by their flaw."""
    expired = headers_of(service, "admin", seconds=-1)
    revoked = headers_of(service, "admin", name="revoked")
    store_of(service).revoke("revoked")
    return {
        "anonymous": {},
        "wrong": {"X-API-Key": "sk_" + "x" * 43},
        "not a key": {"Authorization": "Bearer x"},
        "another scheme": {"Authorization": "Basic eDp5"},
        "expired": expired,
        "revoked": revoked,
        "of another service": {"X-API-Key": other.create("tester", ["admin"])},
    }


async def test_every_route_is_public_or_refuses_everybody_without_a_valid_key(
    service: Service, tmp_path: Path
) -> None:
    other = KeyStore(LocalDatabase(tmp_path / "other.sqlite3"), frozenset)
    wrong = wrong_headers(service, other)
    seen, unexpected = set(), []
    async with service.client() as client:
        del client.headers["Authorization"]
        for (method, path, context), (name, headers) in itertools.product(
            list(requests_of(service)), wrong.items()
        ):
            service.app.state.authenticator.failures.clear()
            async with client.stream(method, path, headers=headers) as response:
                status = response.status_code
            is_anonymous = name in ("anonymous", "another scheme")
            is_refused = not (is_open(method, context) and is_anonymous)
            if (status == 401) is not is_refused:
                unexpected.append((method, path, name, status))
            seen.add(str(context.path))
    other.close()

    assert unexpected == []
    assert len(seen) > 20


async def test_every_route_with_a_scope_refuses_a_key_without_it(service: Service) -> None:
    unexpected, asked = [], set()
    async with service.client("nothing:at-all") as client:
        for method, path, context in requests_of(service):
            if is_open(method, context) or not isinstance(context.original_route, APIRoute):
                continue
            scopes = set(scopes_of(context))
            async with client.stream(method, path) as response:  # Some do not end.
                status = response.status_code
            if scopes and status not in (403, 405) and method != "OPTIONS":
                unexpected.append((method, path, status))
            asked |= scopes

    assert unexpected == []
    assert {"metrics:read", "reports:read"} <= asked


async def test_a_route_without_a_decision_accepts_any_valid_key(service: Service) -> None:
    async with service.client("nothing:at-all") as client:
        found = [
            (await client.get(path)).text
            for path in ("/own/undecided", "/own/plain/route", "/own/private/a.txt", "/own/app/")
        ]

    assert found == ['"undecided"', "plain", "a", '"inner"']


async def test_a_websocket_of_the_owner_needs_a_key(service: Service) -> None:
    url = f"ws://127.0.0.1:{service.port}/own/socket"
    key = headers_of(service, "nothing:at-all")
    statuses = []
    for headers in ({}, {"X-API-Key": "sk_" + "x" * 43}):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers=headers, proxy=None)
        statuses.append(refused.value.response.status_code)

    assert statuses == [401, 401]
    async with connect(url, additional_headers=key, proxy=None):
        pass


async def test_the_document_names_the_scopes_and_what_is_public(service: Service) -> None:
    async with service.client() as client:
        document = (await client.get("/openapi.json")).json()

    paths = document["paths"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    assert document["security"] == [{"bearer": []}, {"apiKey": []}]
    assert paths["/own/open"]["get"]["security"] == []
    assert "security" not in paths["/own/undecided"]["get"]
    assert paths["/reports"]["get"]["security"] == [
        {"bearer": ["reports:read"]},
        {"apiKey": ["reports:read"]},
    ]
    assert {"401", "403"} <= set(paths["/reports"]["get"]["responses"])
    assert "401" in paths["/own/undecided"]["get"]["responses"]
    assert "401" not in paths["/own/open"]["get"]["responses"]


async def test_what_the_settings_make_public_needs_no_key(serve: Callable[..., Any]) -> None:
    service = await serve(access={"public_docs": False, "public_metrics": True})
    async with service.client() as client:
        del client.headers["Authorization"]
        statuses = [(await client.get(path)).status_code for path in ("/docs", "/metrics")]

    assert statuses == [401, 200]
