"""Files, mounted applications and Starlette's routes of the owner."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import Request
from starlette.routing import Route

from {{cookiecutter.package_name}}.engine import sources

from .routes import Source

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
