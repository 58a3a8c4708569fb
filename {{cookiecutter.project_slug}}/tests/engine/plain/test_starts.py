"""The starts of plain responses: malformed headers, HEAD, full disks, and limits of streams."""

import asyncio
import errno
import json
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import AsyncExitStack
from typing import Any

import anyio.to_thread
import pytest
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from starlette.background import BackgroundTask
from starlette.routing import Route

from ..peer import PATIENCE
from ..service import Service
from .routes import KINDS, Source

#: The engine's protocol, and those of uvicorn.
PROTOCOLS = [None, "h11", "httptools"]
MALFORMED: list[tuple[int, dict[str, str]]] = [
    (200, {"Content - Disposition": "attachment"}),
    (200, {"": "empty"}),
    (200, {"X-Name": "a\r\nSet-Cookie: b=c"}),
    (200, {"X-Name": "a\nb"}),
    (200, {"X-Name": "a\0b"}),
    (200, {"Content-Length": "-1"}),
    (999, {}),
    (99, {}),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("path", ["/whole", "/stream", "/silent"])
@pytest.mark.plain("D3")
async def test_a_malformed_start_is_a_500(sections: Any, protocol: str | None, path: str) -> None:
    router = APIRouter()
    start: tuple[int, dict[str, str]] = (200, {})

    async def silent() -> AsyncGenerator[bytes]:
        await asyncio.Event().wait()
        yield b""

    router.get("/whole")(lambda: Response(b"{}", *start))
    router.get("/stream")(lambda: StreamingResponse(iter([b"x"]), *start))
    router.get("/silent")(lambda: StreamingResponse(silent(), *start))

    async with Service(router, http=protocol, **sections) as service, service.client() as client:
        for start in MALFORMED:
            answer = await client.get(path)
            assert answer.status_code == 500, start
            assert answer.json()["title"] == "Internal Server Error"
            assert await service.outcome_of(f"GET {path}") == "server_error"
            assert "set-cookie" not in answer.headers


async def test_any_well_formed_header_is_sent(serve: Any) -> None:
    router = APIRouter()
    values = {"X-Text": "a b\tc", "X-Latin": "h\xe4", "X-Empty": "", "a!#$%&'*+.^_`|~9-": "x"}
    router.get("/whole")(lambda: Response(b"", 299, values))
    service: Service = await serve(router)
    async with service.client() as client:
        answer = await client.get("/whole")

    assert answer.status_code == 299
    assert {name: answer.headers[name] for name in values} == values


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("pause", [None, 60.0])
async def test_a_head_of_an_endless_source_ends_after_the_headers(
    sections: Any, protocol: str | None, pause: float | None
) -> None:
    source = Source()
    source.pause = pause

    async def plain(request: Any) -> StreamingResponse:
        return StreamingResponse(source.items(), media_type="text/plain")

    service = Service(http=protocol, **sections)
    service.app.router.routes.append(Route("/plain", plain))
    async with service, service.raw_connection() as peer:
        await peer.send(b"HEAD /plain HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
        for _ in range(2):
            head = await peer.read_head()
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await service.outcome_of("HEAD /plain") == "complete"
        await peer.get("/health/live")
        assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")
    assert not service.app.state.kernel.channels


async def test_a_background_task_runs_after_a_head(serve: Any) -> None:
    router, ran = APIRouter(), asyncio.Event()

    async def work() -> None:
        ran.set()

    @router.head("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(Source().items(), background=BackgroundTask(work))

    service: Service = await serve(router)
    async with service.client() as client:
        assert (await client.head("/stream")).status_code == 200
    await service.in_server(asyncio.wait_for(ran.wait(), PATIENCE))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("path", ["/whole", "/lines"])
@pytest.mark.usefixtures("first_item")
async def test_a_full_disk_is_507(serve: Any, path: str, number: int) -> None:
    router = APIRouter()

    @router.get("/whole")
    def whole() -> None:
        raise OSError(number, "secret")

    @router.get("/lines")
    async def lines() -> AsyncIterable[str]:
        raise OSError(number, "secret")
        yield ""

    service: Service = await serve(router)
    async with service.client() as client:
        answer = await client.get(path)

    assert answer.status_code == 507
    assert "secret" not in answer.text
    assert await service.outcome_of(f"GET {path}") == "server_error"


@pytest.mark.parametrize("path", KINDS)
@pytest.mark.plain("E4")
async def test_plain_streams_are_limited(serve: Any, path: str) -> None:
    source = Source()
    service: Service = await serve(source.router(), streaming={"max_streams": 2})
    async with AsyncExitStack() as stack:
        for _ in range(2):
            peer = await stack.enter_async_context(service.raw_connection())
            await peer.get(path)
            await peer.read_until(b"item")
        async with service.client() as client:
            async with client.stream("GET", path) as refused:
                assert (refused.status_code, refused.headers.get("retry-after")) == (503, "1")
                assert json.loads(await refused.aread())["detail"] == "Too many streams are open."
            assert (await client.get("/health/live")).status_code == 200
            metrics = (await client.get("/metrics")).text
        assert 'streams_open{module="app"} 2' in metrics
        assert await service.outcome_of(f"GET {path}") == "rejected"
    for _ in range(2):
        assert (await service.ended(f"GET {path}")).module == "app"
    assert not service.app.state.kernel.streams


@pytest.mark.plain("E4")
async def test_the_plain_streams_of_one_client_are_limited(serve: Any) -> None:
    source = Source()
    service: Service = await serve(source.router(), streaming={"max_streams_per_client": 1})
    async with service.raw_connection() as peer, service.client() as client:
        await peer.get("/sse", "X-Forwarded-For: 10.0.0.1")
        await peer.read_until(b"item")
        async with client.stream("GET", "/sse", headers={"X-Forwarded-For": "10.0.0.1"}) as refused:
            assert (refused.status_code, refused.headers.get("retry-after")) == (429, "1")
        async with client.stream("GET", "/sse", headers={"X-Forwarded-For": "10.0.0.2"}) as other:
            assert other.status_code == 200
    assert await anyio.to_thread.run_sync(source.closed.wait, PATIENCE)


async def test_small_responses_and_errors_are_no_streams(serve: Any) -> None:
    router = APIRouter()
    router.get("/small")(lambda: {"a": 1})
    router.get("/empty", status_code=204)(lambda: None)
    router.get("/error")(lambda: StreamingResponse(iter([b"x"]), 404))
    service: Service = await serve(router, streaming={"max_streams": 1})
    service.app.state.kernel.streams["app"] = 1
    async with service.client() as client:
        statuses = [(await client.get(path)).status_code for path in ("/small", "/empty", "/error")]

    assert statuses == [200, 204, 404]
