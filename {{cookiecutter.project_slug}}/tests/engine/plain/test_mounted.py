"""Files, mounted applications and Starlette's routes of the owner."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import Host, Mount, Route, Router

from {{cookiecutter.package_name}}.engine import sources

from ..service import Service
from ..test_handlers import Stamp
from .routes import KINDS, Source, call

BIG = 64 << 20


@pytest.fixture
async def service(serve: Any, tmp_path: Path) -> Any:
    service: Any = await serve()
    app: FastAPI = service.app
    big = tmp_path / "public" / "big.bin"
    big.parent.mkdir()
    with big.open("wb") as file:
        file.truncate(BIG)

    @app.get("/file")
    async def file_() -> FileResponse:
        return FileResponse(big)

    app.mount("/static", StaticFiles(directory=big.parent))
    source = service.source = Source()
    inner = FastAPI()
    inner.include_router(source.router())
    app.mount("/inner", inner)

    async def plain(request: Request) -> StreamingResponse:
        return StreamingResponse(source.items())

    app.router.routes.append(Route("/plain", plain))
    sources.watch(app, app.state.kernel)
    return service


PATHS = ["/file", "/static/big.bin", "/inner/streaming", "/inner/lines", "/inner/sse", "/plain"]
#: Their labels in logs and metrics.
ROUTES = {
    "/static/big.bin": "/static/{path}",
    "/inner/streaming": "/streaming",
    "/inner/lines": "/lines",
    "/inner/sse": "/sse",
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_leaves(service: Any, path: str) -> None:
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get(path)
        await peer.read_head()
        peer.reset()
    ended = await service.ended(f"GET {ROUTES.get(path, path)}")
    assert ended.outcome == "client_abort"


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_does_not_read(service: Any, path: str) -> None:
    service.source.item, service.source.pause = "item" * 10_000, None
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get(path)
        ended = await service.ended(f"GET {ROUTES.get(path, path)}")
    assert ended.outcome == "slow_client"


@pytest.mark.usefixtures("first_item")
@pytest.mark.parametrize("path", PATHS[2:])
async def test_failures(service: Any, path: str) -> None:
    async with service.client() as client:
        service.source.begin(fail_after=0)
        assert (await client.get(path)).status_code == 500
        service.source.begin(fail_after=2)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path)


def fastapi_of(source: Source) -> FastAPI:
    inner = FastAPI()
    inner.include_router(source.router())
    return inner


def stamped_fastapi(source: Source) -> FastAPI:
    inner = fastapi_of(source)
    inner.add_middleware(Stamp)
    return inner


def router_of(source: Source) -> APIRouter:
    return source.router()


def streaming(source: Source) -> Route:
    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(source.items())

    return Route("/streaming", endpoint)


LAYERS = [Middleware(Stamp), Middleware(GZipMiddleware, minimum_size=1)]
#: Middleware in each place that Starlette has for it, below the middleware of the service.
PLACES: dict[str, Any] = {
    "of a mounted application": lambda source: Mount("/m", stamped_fastapi(source)),
    "around a mounted application": lambda source: Mount("/m", Stamp(fastapi_of(source))),
    "of a mount": lambda source: Mount("/m", fastapi_of(source), middleware=LAYERS),
    "of a mounted router": lambda source: Mount("/m", router_of(source), middleware=LAYERS),
    "of Starlette": lambda source: Mount(
        "/m", Starlette(routes=[streaming(source)], middleware=LAYERS)
    ),
    "of a router": lambda source: Mount("/m", Router([streaming(source)], middleware=LAYERS)),
    "of mounted routes": lambda source: Mount("/m", routes=[streaming(source)], middleware=LAYERS),
    "of a host": lambda source: Host("127.0.0.1", Mount("/m", Stamp(fastapi_of(source)))),
    "of a route": lambda source: Route(
        "/m/streaming", streaming(source).endpoint, middleware=LAYERS
    ),
}


@pytest.mark.usefixtures("first_item")
@pytest.mark.parametrize("place", PLACES)
async def test_middleware_below_that_of_the_service(sections: Any, place: str) -> None:
    source = Source()
    has_all = "a mounted" in place or place in ("of a mount", "of a host")
    service = Service(**sections)
    service.app.router.routes.append(PLACES[place](source))

    async with service, service.client() as client:
        for path in [f"/m{kind}" for kind in KINDS] if has_all else ["/m/streaming"]:
            source.begin(last=3)
            assert (await client.get(path)).text.count("item") == 3, path
            source.begin(fail_after=2)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(path)
            source.begin(fail_after=0)
            assert (await client.get(path)).status_code == 500, path


async def test_a_mounted_application_works_without_the_service(sections: Any) -> None:
    source = Source(last=3)
    inner = stamped_fastapi(source)
    service = Service(**sections)
    service.app.mount("/m", inner)
    async with service, service.client() as client:
        assert (await client.get("/m/lines")).status_code == 200

    source.begin(last=3)
    assert (await call(inner, "/lines"))[0] == 200
    source.begin(fail_after=2)
    assert (await call(inner, "/streaming"))[0] == 200


class Plugin:
    """An application that is mounted in another one, and refers to it."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("plugin")(scope, receive, send)


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"wsgi"]


class Threaded:
    """Calls a WSGI application, which is synchronous."""

    def __init__(self) -> None:
        self.app = wsgi

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b"".join(self.app({}, lambda *_: None))
        await PlainTextResponse(body)(scope, receive, send)


async def test_applications_that_are_no_middleware(sections: Any) -> None:
    service = Service(**sections)
    service.app.mount("/plugin", Plugin(service.app))
    service.app.mount("/wsgi", Threaded())
    async with service, service.client() as client:
        assert (await client.get("/plugin/")).text == "plugin"
        assert (await client.get("/wsgi/")).text == "wsgi"
