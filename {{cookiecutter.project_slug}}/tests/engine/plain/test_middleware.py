"""Streams below and above the middleware that applications use: whole, live, and cut on failure."""

import asyncio
import os
from typing import Any

import anyio.to_thread
import httpx
import pytest
from fastapi import APIRouter
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.settings import Settings

from ..peer import PATIENCE
from ..service import Service, make_settings
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


def wrapped(settings: Any) -> Any:
    return GZipMiddleware(create_app(settings))


def test_serve_does_not_start_with_middleware_around_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "umask", int)
    with pytest.raises(SystemExit) as ended:
        cli.main(wrapped, make_settings, [])

    assert "starlette.middleware.gzip.GZipMiddleware" in str(ended.value)
    assert "\n" not in str(ended.value)


@pytest.fixture(params=MIDDLEWARE)
def middleware(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def served(sections: Any, middleware: str, *routers: APIRouter) -> Service:
    service = Service(*routers, **sections)
    kind, options = MIDDLEWARE[middleware]
    service.app.add_middleware(kind, **options)
    return service


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = set(modules) - Settings.model_fields.keys()
    return pytest.mark.skipif(bool(missing), reason="a module is missing")


@pytest.mark.usefixtures("first_item")
async def test_streams_of_path_operations(sections: Any, middleware: str) -> None:
    source = Source()

    async with (
        served(sections, middleware, source.router()) as service,
        service.client() as client,
    ):
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


@needs("upload", "download")
async def test_downloads_of_the_engine(sections: Any, middleware: str) -> None:
    big = b"0123456789" * 100_000

    async with served(sections, middleware) as service, service.client() as client:
        stored = (await client.post("/files?name=a.bin", content=big)).json()
        download = await client.get(f"/files/{stored['id']}")
        listing = await client.get("/files")
        table = await client.get("/exports/table")

    assert download.content == big
    assert stored["id"] in listing.text
    assert table.status_code == 200


@needs("realtime")
async def test_events_of_the_engine(sections: Any, middleware: str) -> None:
    url, text = "/topics/news/events", {"Content-Type": "text/plain"}

    async with served(sections, middleware) as service, service.client() as client:
        for media_type in ("text/event-stream", "application/jsonl"):
            headers = {"Accept": media_type}
            async with client.stream("GET", url, headers=headers) as answer:
                texts = answer.aiter_text()
                received = await anext(texts)
                event = (await client.post(url, content="live", headers=text)).json()
                while "live" not in received:
                    received += await anext(texts)
        headers = {"Accept": "application/json"}
        polling = asyncio.create_task(
            client.get(url, params={"poll": 9, "last_event_id": event["id"]}, headers=headers)
        )
        await client.post(url, content="polled", headers=text)
        polled = await polling

    assert "polled" in polled.text
