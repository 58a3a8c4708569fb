"""Streams below the middleware that applications use: whole, live, and cut on failure."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
from fastapi import WebSocket
from fastapi.responses import FileResponse
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from websockets.asyncio.client import connect

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.settings import Settings

from ..peer import PATIENCE
from ..service import Service, make_settings
from ..test_handlers import Stamp
from .routes import KINDS, Source

BIG = b"0123456789" * 100_000


class Counting:
    """A middleware of pure ASGI."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-pure", b"1")]}
            await send(message)

        await self.app(scope, receive, counted)


class Visit:
    """A middleware of pure ASGI that changes the session of every request."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["session"]["visits"] = 1
        await self.app(scope, receive, send)


#: Each middleware, and the header that it adds to every response.
MIDDLEWARE: dict[str, tuple[list[Middleware], str]] = {
    "pure": ([Middleware(Counting)], "x-pure"),
    "base": ([Middleware(Stamp)], "x-stamp"),
    "gzip": ([Middleware(GZipMiddleware, minimum_size=1)], ""),
    "cors": ([Middleware(CORSMiddleware, allow_origins=["*"])], "access-control-allow-origin"),
    "session": (
        [Middleware(SessionMiddleware, secret_key=__name__), Middleware(Visit)],
        "set-cookie",
    ),
    "proxy": ([Middleware(ProxyHeadersMiddleware, trusted_hosts="*")], ""),
    "hosts": ([Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"])], ""),
}
#: The order of several, outermost first.
STACKS = {name: [name] for name in MIDDLEWARE}
STACKS |= {"all": [*MIDDLEWARE], "all, reversed": [*reversed(MIDDLEWARE)]}


class Cell:
    """A service below some middleware, and a client that checks what each of them adds."""

    def __init__(self, service: Service, client: httpx.AsyncClient, stack: list[str]) -> None:
        self.service = service
        self.client = client
        self.added = {MIDDLEWARE[name][1] for name in stack} - {""}

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return self._checked(await self.client.get(path, **options))

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return self._checked(await self.client.post(path, **options))

    def stream(self, path: str, **options: Any) -> Any:
        return self.client.stream("GET", path, **options)

    def _checked(self, response: httpx.Response) -> httpx.Response:
        assert self.added <= set(response.headers)
        return response


Check = Callable[[Cell], Awaitable[None]]
source = Source()
router = source.router()


@router.get("/whole")
async def whole() -> FileResponse:
    return FileResponse(Path(__file__))


@router.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@router.get("/missing")
async def missing() -> FileResponse:
    return FileResponse(Path(__file__).with_name("missing"))


def plain_stream(path: str) -> Check:
    async def check(cell: Cell) -> None:
        source.begin(last=3)
        complete = await cell.get(path)
        assert (complete.status_code, complete.text.count("item")) == (200, 3)

        source.begin(fail_after=0)
        assert (await cell.client.get(path)).status_code == 500

        source.begin(fail_after=2)
        received = ""
        with pytest.raises(httpx.RemoteProtocolError):
            async with cell.stream(path) as response:
                async for text in response.aiter_text():
                    received += text
        assert received.count("item") == 2
        assert ("event: error" in received) is path.startswith("/sse")

        source.begin()
        async with cell.stream(path) as response:
            async for text in response.aiter_text():
                if "item" in text:
                    break
        assert await anyio.to_thread.run_sync(source.closed.wait, PATIENCE)

    return check


async def files_of_starlette(cell: Cell) -> None:
    content = Path(__file__).read_bytes()
    assert (await cell.get("/whole")).content == content
    part = await cell.get("/whole", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert (await cell.client.get("/missing")).status_code == 500


async def uploads(cell: Cell) -> None:
    stored = await cell.post("/files?filename=a.bin", content=parts_of(BIG))
    assert (stored.status_code, stored.json()["size"]) == (201, len(BIG))
    form = await cell.post("/files", files={"file": ("b.bin", BIG)})
    assert (form.status_code, form.json()[0]["size"]) == (201, len(BIG))


async def downloads(cell: Cell) -> None:
    for content in (BIG, b"small"):
        record = (await cell.post("/files?filename=a.bin", content=content)).json()
        path = f"/files/{record['id']}"
        assert (await cell.get(path)).content == content
        part = await cell.get(path, headers={"Range": "bytes=2-"})
        assert (part.status_code, part.content) == (206, content[2:])
        head = await cell.client.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(content)))
        assert record["id"] in (await cell.get("/files")).text


async def exports(cell: Cell) -> None:
    assert (await cell.get("/exports/table?limit=3")).text.count("sensor-") == 3
    assert (await cell.client.get("/exports/lines?fail_after=0")).status_code == 500
    with pytest.raises(httpx.RemoteProtocolError):
        await cell.get("/exports/lines?fail_after=3")


async def transforms(cell: Cell) -> None:
    headers = {"Content-Type": "text/plain"}
    answer = await cell.post("/transform/upper", content=parts_of(b"a" * 99), headers=headers)
    assert answer.text == "A" * 99


async def parts_of(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 10_000):
        yield content[start : start + 10_000]


async def websockets(cell: Cell) -> None:
    async with connect(cell.service.url.replace("http", "ws") + "/echo", proxy=None) as socket:
        await socket.send("text")
        assert await socket.recv() == "text"


NEWS = "/topics/news/events"


def subscriptions(media_type: str) -> Check:
    async def check(cell: Cell) -> None:
        async with cell.stream(NEWS, headers={"Accept": media_type}) as response:
            assert cell.added <= set(response.headers)
            texts = response.aiter_text()
            received = await anext(texts)
            await publish(cell, "live")
            while "live" not in received:
                received += await anext(texts)
        assert await cell.service.outcome_of("GET /topics/{topics}/events") == "client_abort"

    return check


async def polls(cell: Cell) -> None:
    event = await publish(cell, "first")
    query = {"poll": 9, "last_event_id": event["id"]}
    polling = asyncio.create_task(
        cell.get(NEWS, params=query, headers={"Accept": "application/json"})
    )
    await publish(cell, "polled")
    assert "polled" in (await polling).text


async def publish(cell: Cell, text: str) -> Any:
    answer = await cell.post(NEWS, content=text, headers={"Content-Type": "text/plain"})
    return answer.json()


KNOWN: dict[str, tuple[Check, set[str]]] = {
    **{path: (plain_stream(path), set()) for path in KINDS},
    "FileResponse": (files_of_starlette, set()),
    "WebSocket": (websockets, set()),
    "upload": (uploads, {"upload"}),
    "download": (downloads, {"upload", "download"}),
    "export": (exports, {"download"}),
    "transform": (transforms, {"download"}),
    "events": (subscriptions("text/event-stream"), {"realtime"}),
    "lines of events": (subscriptions("application/jsonl"), {"realtime"}),
    "poll": (polls, {"realtime"}),
}
CHECKS = {
    name: check
    for name, (check, modules) in KNOWN.items()
    if modules <= Settings.model_fields.keys()
}


@pytest.mark.usefixtures("first_item")
@pytest.mark.parametrize("stack", STACKS)
async def test_all_kinds_of_streams_below_middleware(sections: Any, stack: str) -> None:
    service = Service(router, **sections)
    for name in STACKS[stack]:
        service.app.user_middleware += MIDDLEWARE[name][0]

    async with service, service.client() as client:
        client.headers["Origin"] = service.url
        for kind, check in CHECKS.items():
            try:
                await check(Cell(service, client, STACKS[stack]))
            except BaseException as error:
                error.add_note(f"{kind} below {stack}")
                raise

        source.begin()
        async with client.stream("GET", "/sse") as response:
            texts = response.aiter_text()
            await anext(texts)
            await service.call(service.app.state.kernel.drain.begin)
            *_, last = [text async for text in texts]
            assert "retry: " in last


async def test_a_file_that_middleware_compresses_is_not_resumed(sections: Any) -> None:
    service = Service(router, **sections)
    service.app.add_middleware(GZipMiddleware)
    async with service, service.client() as client:

        async def get(path: str, **headers: str) -> httpx.Response:
            answer = await client.get(path, headers=headers)
            await service.ended(f"GET {routes[path]}")  # The server would cancel it at its end.
            return answer

        routes = {"/whole": "/whole"}
        if {"upload", "download"} <= Settings.model_fields.keys():
            stored = await client.post("/files?filename=a.bin", content=BIG)
            routes[f"/files/{stored.json()['id']}"] = "/files/{file_id}"
        for path in routes:
            whole = await get(path)
            if "content-encoding" not in whole.headers:
                continue  # The server has sent the file itself.
            rest = await get(path, **{"Range": "bytes=9-", "If-Range": whole.headers["etag"]})
            assert (path, rest.status_code) == (path, 200)
            identity = await get(path, **{"Accept-Encoding": "identity"})
            assert not identity.headers["etag"].startswith("W/")


def around(name: str) -> Callable[[Any], Any]:
    def create(settings: Any) -> Any:
        app: Any = create_app(settings)
        for cls, args, kwargs in reversed(MIDDLEWARE[name][0]):
            app = cls(app, *args, **kwargs)
        return app

    return create


@pytest.mark.parametrize("name", MIDDLEWARE)
def test_serve_does_not_start_with_middleware_around_the_service(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "umask", int)
    with pytest.raises(SystemExit) as ended:
        cli.main(around(name), make_settings, [])

    kind: Any = MIDDLEWARE[name][0][0].cls
    assert f"{kind.__module__}.{kind.__name__}: add middleware with" in str(ended.value)
    assert "\n" not in str(ended.value)
