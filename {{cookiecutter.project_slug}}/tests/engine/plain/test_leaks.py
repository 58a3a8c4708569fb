"""Nothing remains of requests, whether complete or aborted; services in services, and in tests."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, UploadFile
from fastapi.responses import StreamingResponse

from {{cookiecutter.package_name}}.engine.service import Service as Application
from {{cookiecutter.package_name}}.engine.settings import ServiceSettings

from ..peer import PATIENCE, Peer
from ..service import Service
from ..test_handlers import Stamp
from .routes import KINDS, Source, call


async def rest_of(peer: Peer) -> None:
    with suppress(ConnectionResetError):
        await peer.read_to_end()


@pytest.mark.parametrize("layer", [False, True])
async def test_no_task_or_channel_remains(sections: Any, layer: bool) -> None:
    source = Source()
    service = Service(source.router(), **sections)
    if layer:
        service.app.add_middleware(Stamp)
    kernel = service.app.state.kernel

    async def tasks() -> list[str]:
        return [repr(t)[:200] for t in asyncio.all_tasks()]

    async with service:
        base = len(await service.in_server(tasks()))
        for kind in ("complete", "early", "late", "abort"):
            for path in KINDS:
                for _ in range(5):
                    source.pause = 0.001
                    source.begin(
                        last=3 if kind == "complete" else None,
                        fail_after={"early": 0, "late": 2}.get(kind),
                    )
                    async with service.raw_connection() as peer:
                        await peer.get(path, "Connection: close")
                        await peer.read_head()
                        if kind == "abort":
                            peer.reset()
                        else:
                            await rest_of(peer)
                    await service.outcome_of(f"GET {path}")
        # A last task may close its connection at the moment.
        async with asyncio.timeout(PATIENCE):
            while len(await service.in_server(tasks())) > base + 1:
                await asyncio.sleep(0.01)
        assert not await service.call(lambda: set(kernel.channels))
        assert not kernel.streams


@pytest.mark.parametrize("layer", [False, True])
async def test_the_connection_stays_usable(sections: Any, layer: bool) -> None:
    source = Source(last=3)
    source.pause = 0.001
    service = Service(source.router(), **sections)
    if layer:
        service.app.add_middleware(Stamp)
    async with service, service.raw_connection() as peer:
        for path in KINDS:
            source.begin(last=3)
            request = f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()
            await peer.send(request)
            await peer.read_until(b"\r\n0\r\n\r\n")
        source.begin(last=3)
        requests = [f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n" for path in KINDS]
        await peer.send("".join(requests).encode())
        for _ in KINDS:
            await peer.read_until(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("layer", [False, True])
async def test_the_connection_stays_usable_after_a_drain(sections: Any, layer: bool) -> None:
    source = Source()
    service = Service(source.router(), **sections)
    if layer:
        service.app.add_middleware(Stamp)
    async with service:
        for path in ("/sse", "/sse-sync"):
            service.app.state.kernel.drain.draining = False
            source.begin()
            async with service.raw_connection() as peer:
                await peer.get(path)
                await peer.read_until(b"item")
                await service.call(service.app.state.kernel.drain.begin)
                await peer.read_until(b"retry: ")
                rest = await peer.read_until(b"0\r\n\r\n")
                assert rest.count(b"retry") == 0
                await peer.get("/health/live")
                assert b"HTTP/1.1 " in await peer.read_head()
            assert await service.outcome_of(f"GET {path}") == "drained"
            await asyncio.to_thread(source.closed.wait, PATIENCE)
            assert source.closed.is_set()


async def test_comments_are_between_events_that_arrive_in_parts(serve: Any) -> None:
    router = APIRouter()

    @router.get("/split")
    async def split() -> StreamingResponse:
        async def items() -> AsyncGenerator[str]:
            while True:
                yield "data: a"
                await asyncio.sleep(0.7)
                yield "b\n"
                await asyncio.sleep(0.01)
                yield "\n"
                await asyncio.sleep(0.7)

        headers = {"Cache-Control": "max-age=3", "Content-Type": "text/event-stream"}
        return StreamingResponse(items(), headers=headers)

    service: Service = await serve(router, streaming={"heartbeat": 0.1})
    async with service.client() as client, client.stream("GET", "/split") as answer:
        assert answer.headers.get_list("cache-control") == ["max-age=3"]
        text = ""
        async for part in answer.aiter_text():
            text += part
            if text.count("data: ab\n\n") == 2:
                await service.call(service.app.state.kernel.drain.begin)
    assert ":\n\n" in text
    assert text.replace(":\n\n", "").count("data: ab\n\n") == text.count("data: ab\n\n")
    assert text.replace(":\n\n", "").replace("data: ab\n\n", "").startswith("retry: ")


def nested(source: Source, sections: Any) -> tuple[Service, Application]:
    """Return a service, and another one that is mounted in it with the routes of a source."""
    settings: Any = ServiceSettings
    outer = Service(**sections)
    inner = Application(settings(_env_file=None, server={"allowed_hosts": "test"}))
    inner.include_router(source.router())
    outer.app.mount("/inner", inner)
    return outer, inner


@pytest.mark.usefixtures("first_item")
async def test_a_service_in_a_service(sections: Any) -> None:
    source = Source()
    outer, inner = nested(source, sections)
    async with outer, outer.client() as client:
        for path in KINDS:
            source.begin(last=3)
            whole = await client.get("/inner" + path)
            assert (whole.status_code, whole.text.count("item")) == (200, 3), path
            source.begin(fail_after=0)
            early = await client.get("/inner" + path)
            assert early.status_code == 500, path
            source.error = lambda: HTTPException(409)
            source.begin(fail_after=0)
            early = await client.get("/inner" + path)
            assert early.status_code == 409, path
            source.error = ZeroDivisionError
            source.begin(fail_after=2)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/inner" + path)
            source.begin()
            async with outer.raw_connection() as peer:
                await peer.get("/inner" + path)
                await peer.read_head()
                peer.reset()
            assert await asyncio.to_thread(source.closed.wait, PATIENCE), path
        kernels = [inner.state.kernel, outer.app.state.kernel]
        async with asyncio.timeout(PATIENCE):
            while await outer.call(lambda: [kernel for kernel in kernels if kernel.channels]):
                await asyncio.sleep(0.01)


async def test_a_service_in_a_service_drains(sections: Any) -> None:
    source = Source()
    outer, _ = nested(source, sections)
    async with outer, outer.client() as client, client.stream("GET", "/inner/sse") as answer:
        await outer.call(outer.app.state.kernel.drain.begin)
        text = "".join([text async for text in answer.aiter_text()])
        assert "retry" in text


@pytest.mark.usefixtures("first_item")
@pytest.mark.parametrize("layer", [False, True])
async def test_clients_without_a_server(layer: bool) -> None:
    source = Source(last=3)
    settings: Any = ServiceSettings
    app = Application(settings(_env_file=None, server={"allowed_hosts": "test"}))
    app.include_router(source.router())
    if layer:
        app.add_middleware(Stamp)

    @app.post("/file")
    async def file(file: UploadFile) -> int:
        return len(await file.read())

    for path in KINDS:
        source.begin(last=3)
        assert (await call(app, path))[1].count(b"item") == 3
        source.begin(fail_after=0)
        assert (await call(app, path))[0] == 500
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n0123456789'
    assert await call(app, "/file", part + b"\r\n--x--\r\n") == (200, b"10")


async def test_a_router_that_is_also_in_another_application(serve: Any) -> None:
    router = APIRouter()

    @router.get("/lines")
    async def lines() -> AsyncIterable[str]:
        yield "item"

    @router.get("/lines-sync")
    def lines_sync() -> Iterable[str]:
        yield "item"

    @router.get("/streaming")
    async def streaming() -> StreamingResponse:
        async def items() -> AsyncGenerator[str]:
            yield "item"

        return StreamingResponse(items())

    await serve(router)
    other = FastAPI()
    other.include_router(router)
    for path in ("/lines", "/lines-sync", "/streaming"):
        assert b"item" in (await call(other, path))[1]


@pytest.mark.parametrize("layer", [False, True])
async def test_polling_for_the_disconnect(sections: Any, layer: bool) -> None:
    router = APIRouter()
    done = asyncio.Event()
    values = []

    var: ContextVar[str] = ContextVar("var")

    async def dependency() -> AsyncIterator[None]:
        var.set("seen")
        yield

    @router.post("/polling", dependencies=[Depends(dependency)])
    async def polling(request: Request) -> StreamingResponse:
        async def items() -> AsyncGenerator[str]:
            try:
                while not await request.is_disconnected():
                    values.append(var.get("unseen"))
                    yield "item"
                    await asyncio.sleep(0.01)
            finally:
                done.set()

        return StreamingResponse(items())

    service = Service(router, **sections)
    if layer:
        service.app.add_middleware(Stamp)
    async with service:
        async with service.raw_connection() as peer:
            await peer.send(b"POST /polling HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
            await peer.read_until(b"item")
            await peer.read_until(b"item")
            peer.reset()
        await service.in_server(asyncio.wait_for(done.wait(), PATIENCE))
        assert await service.outcome_of("POST /polling") == "client_abort"
        assert set(values) == {"seen"}


@pytest.mark.parametrize("layer", [False, True])
async def test_a_background_task_survives_its_client(sections: Any, layer: bool) -> None:
    router = APIRouter()
    done = asyncio.Event()

    @router.post("/later")
    async def later(tasks: BackgroundTasks) -> str:
        async def work() -> None:
            await asyncio.sleep(0.3)
            done.set()

        tasks.add_task(work)
        return "later"

    service = Service(router, **sections)
    if layer:
        service.app.add_middleware(Stamp)
    async with service:
        async with service.raw_connection() as peer:
            await peer.send(b"POST /later HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
            await peer.read_until(b'"later"')
            peer.reset()
        await service.in_server(asyncio.wait_for(done.wait(), PATIENCE))
        assert await service.outcome_of("POST /later") == "complete"


async def test_a_body_shorter_than_declared_is_a_failure(serve: Any) -> None:
    router = APIRouter()

    @router.get("/short")
    async def short() -> StreamingResponse:
        async def items() -> AsyncGenerator[bytes]:
            yield b"abc"

        return StreamingResponse(items(), headers={"Content-Length": "10"})

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/short")
        await rest_of(peer)
    assert await service.outcome_of("GET /short") == "server_error"
