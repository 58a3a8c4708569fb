"""Responses of plain path operations keep the promises of the engine's own streams."""

import asyncio
from typing import Any

import anyio.to_thread
import httpx
import pytest
from fastapi import HTTPException

from {{cookiecutter.package_name}}.engine.kernel import Problem

from ..peer import PATIENCE
from ..service import Service
from .routes import KINDS, Source

kinds = pytest.mark.parametrize("path", KINDS)
FORMATS = {"/sse": "event: error", "/sse-sync": "event: error", "/lines": '{"$error": {'}


@kinds
async def test_a_complete_stream_is_complete(serve: Any, path: str) -> None:
    source = Source(last=3)
    service: Service = await serve(source.router())

    async with service.client() as client:
        answer = await client.get(path)

    assert answer.status_code == 200
    assert answer.text.count("item") == 3
    assert await service.outcome_of(f"GET {path}") == "complete"


@pytest.mark.usefixtures("first_item")
@kinds
@pytest.mark.plain("D2", "D14")
async def test_a_failure_before_the_first_item_is_a_500(serve: Any, path: str) -> None:
    source = Source(fail_after=0)
    service: Service = await serve(source.router())

    async with service.client() as client:
        answer = await client.get(path)

    assert answer.status_code == 500
    assert answer.json()["title"] == "Internal Server Error"
    assert await service.outcome_of(f"GET {path}") == "server_error"


@pytest.mark.usefixtures("first_item")
@kinds
@pytest.mark.parametrize("error", [HTTPException, Problem])
async def test_a_refusal_before_the_first_item_is_its_response(
    serve: Any, path: str, error: Any
) -> None:
    source = Source(fail_after=0)
    source.error = lambda: error(409, "No.")
    service: Service = await serve(source.router())

    async with service.client() as client:
        answer = await client.get(path)

    assert answer.status_code == 409
    assert answer.json()["detail"] == "No."
    assert await service.outcome_of(f"GET {path}") == "rejected"


@kinds
async def test_a_failure_half_way_never_looks_complete(serve: Any, path: str) -> None:
    source = Source(fail_after=2)
    service: Service = await serve(source.router())

    received = ""
    async with service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            async with client.stream("GET", path) as answer:
                async for text in answer.aiter_text():
                    received += text

    assert received.count("item") == 2
    assert FORMATS.get(path, "") in received
    assert await service.outcome_of(f"GET {path}") == "server_error"


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("pause", [0.01, None, 60.0])
@kinds
@pytest.mark.plain("D6", "D7", "D8")
async def test_the_source_is_closed_when_the_client_leaves(
    serve: Any, path: str, pause: float | None
) -> None:
    if pause == 60.0 and path.endswith("-sync"):
        pause = 1.0
    source = Source()
    source.pause = pause
    service: Service = await serve(source.router())

    async with service.raw_connection() as peer:
        await peer.get(path)
        await peer.read_head()
        peer.reset()

    assert await anyio.to_thread.run_sync(source.closed.wait, PATIENCE)
    assert await service.outcome_of(f"GET {path}") == "client_abort"


@kinds
@pytest.mark.plain("D9", "R4")
async def test_a_client_that_does_not_read_is_cut_off(serve: Any, path: str) -> None:
    source = Source()
    source.item, source.pause = "item" * 10_000, None
    service: Service = await serve(source.router())

    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get(path)
        assert await service.outcome_of(f"GET {path}") == "slow_client"

    assert await anyio.to_thread.run_sync(source.closed.wait, PATIENCE)


@pytest.mark.parametrize("path", ["/sse", "/sse-sync"])
@pytest.mark.plain("R11")
async def test_an_event_stream_ends_cleanly_when_the_service_drains(serve: Any, path: str) -> None:
    source = Source()
    service: Service = await serve(source.router())

    async with service.client() as client, client.stream("GET", path) as answer:
        await service.call(service.app.state.kernel.drain.begin)
        text = "".join([text async for text in answer.aiter_text()])

    assert text.rpartition("retry: ")[2].strip().isdigit()
    assert await service.outcome_of(f"GET {path}") == "drained"


@pytest.mark.parametrize("is_early", [True, False])
@pytest.mark.plain("R11")
async def test_an_event_stream_that_begins_late_is_told_of_the_drain_as_well(
    serve: Any, is_early: bool
) -> None:
    """Its format is not known while it waits for the first item."""
    source = Source()
    source.pause = 3600.0
    service: Service = await serve(source.router())
    kernel = service.app.state.kernel

    async with service.raw_connection() as peer:
        if is_early:
            await service.call(kernel.drain.begin)
        await peer.get("/sse")
        async with asyncio.timeout(PATIENCE):
            while not (is_early or kernel.channels):
                await asyncio.sleep(0)
        await service.call(kernel.drain.begin)
        text = (await peer.read_until(b"0\r\n\r\n")).decode()

    assert text.rpartition("retry: ")[2].partition("\n")[0].isdigit()
    assert await service.outcome_of("GET /sse") == "drained"


async def test_a_silent_event_stream_stays_alive(serve: Any) -> None:
    source = Source(last=1)
    source.pause = 3600.0
    service: Service = await serve(source.router(), streaming={"heartbeat": 0.1})

    async with service.raw_connection() as peer:
        await peer.get("/sse")
        await peer.read_until(b":\n\n")
