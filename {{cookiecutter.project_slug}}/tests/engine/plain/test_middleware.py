"""Streams below and above the middleware that applications use: whole, live, and cut on failure."""

import asyncio
from typing import Any

import anyio.to_thread
import httpx
import pytest
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ..peer import PATIENCE
from ..realtime.subscriber import TEXT
from ..service import Service
from ..test_handlers import Stamp
from .routes import KINDS, Source


class Counting:
    """A middleware of pure ASGI."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counted(message: Any) -> None:
            await send(dict(message))

        await self.app(scope, receive, counted)


MIDDLEWARE: dict[str, tuple[Any, dict[str, Any]]] = {
    "pure": (Counting, {}),
    "base": (Stamp, {}),
    "gzip": (GZipMiddleware, {"minimum_size": 1}),
    "cors": (CORSMiddleware, {"allow_origins": ["https://a.test"]}),
    "proxy": (ProxyHeadersMiddleware, {"trusted_hosts": "*"}),
    "hosts": (TrustedHostMiddleware, {"allowed_hosts": ["*"]}),
}


@pytest.fixture(params=MIDDLEWARE)
def middleware(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_streams_of_path_operations(sections: Any, middleware: str) -> None:
    source = Source()
    service = Service(source.router(), **sections)
    kind, options = MIDDLEWARE[middleware]
    service.app.add_middleware(kind, **options)

    async with service, service.client() as client:
        for path in KINDS:
            source.begin(last=3)
            whole = await client.get(path)
            assert (whole.status_code, whole.text.count("item")) == (200, 3), path

            source.begin(fail_after=0)
            early = await client.get(path)
            assert early.status_code == 500, path

            source.begin(fail_after=2)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(path)

            source.begin()
            async with client.stream("GET", path) as answer:
                async for text in answer.aiter_text():
                    if "item" in text:
                        break
            assert await anyio.to_thread.run_sync(source.closed.wait, PATIENCE), path


async def test_streams_of_the_engine(sections: Any, middleware: str) -> None:
    service = Service(**sections)
    kind, options = MIDDLEWARE[middleware]
    service.app.add_middleware(kind, **options)
    url, big = "/topics/news/events", b"0123456789" * 100_000

    async with service, service.client() as client:
        stored = (await client.post("/files?name=a.bin", content=big)).json()
        download = await client.get(f"/files/{stored['id']}")
        listing = await client.get("/files")
        table = await client.get("/exports/table")
        for media_type in ("text/event-stream", "application/jsonl"):
            headers = {"Accept": media_type}
            async with client.stream("GET", url, headers=headers) as answer:
                texts = answer.aiter_text()
                received = await anext(texts)
                event = (await client.post(url, content="live", headers=TEXT)).json()
                while "live" not in received:
                    received += await anext(texts)
        headers = {"Accept": "application/json"}
        polling = asyncio.create_task(
            client.get(url, params={"poll": 9, "last_event_id": event["id"]}, headers=headers)
        )
        await client.post(url, content="polled", headers=TEXT)
        polled = await polling

    assert download.content == big
    assert stored["id"] in listing.text
    assert table.status_code == 200
    assert "polled" in polled.text
