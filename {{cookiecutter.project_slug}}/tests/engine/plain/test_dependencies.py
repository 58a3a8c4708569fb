"""Dependencies with `yield` of plain streams: they continue with the end of the stream."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from ..peer import PATIENCE
from ..service import Service
from .routes import KINDS, Source


class Transaction:
    """A dependency that records its end."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    async def __call__(self) -> AsyncGenerator[None]:
        try:
            yield
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("commit")


def router(source: Source, transaction: Transaction) -> APIRouter:
    router = APIRouter()
    opened = Annotated[None, Depends(transaction)]

    @router.get("/sse", response_class=EventSourceResponse)
    async def sse(_: opened) -> AsyncIterable[str]:
        async for item in source.items():
            yield item

    @router.get("/lines")
    async def lines(_: opened) -> AsyncIterable[str]:
        async for item in source.items():
            yield item

    @router.get("/streaming")
    async def streaming(_: opened) -> StreamingResponse:
        return StreamingResponse(source.items())

    return router


@pytest.mark.parametrize("path", ["/sse", "/lines", "/streaming"])
async def test_a_dependency_learns_how_the_stream_ended(serve: Any, path: str) -> None:
    source, transaction = Source(last=3), Transaction()
    service: Any = await serve(router(source, transaction))

    async with service.client() as client:
        await client.get(path)
        await service.ended(f"GET {path}")

        source.begin()
        async with client.stream("GET", path) as answer:
            await anext(answer.aiter_text())
        await service.ended(f"GET {path}")

        source.begin(fail_after=2)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path)
        await service.ended(f"GET {path}")

    failure = "ExceptionGroup" if path == "/sse" else "ZeroDivisionError"
    assert transaction.ends == ["commit", "CancelledError", failure]


@pytest.mark.parametrize("outcome", ["complete", "server_error", "client_abort"])
@pytest.mark.parametrize("path", KINDS)
@pytest.mark.plain("D16")
async def test_background_tasks_run_once_after_every_outcome(
    sections: Any, path: str, outcome: str
) -> None:
    ran: list[str] = []
    source = Source(**{"complete": {"last": 2}, "server_error": {"fail_after": 2}}.get(outcome, {}))

    def dependency(tasks: BackgroundTasks) -> None:
        tasks.add_task(ran.append, "ran")

    service = Service(**sections)
    service.app.include_router(source.router(), dependencies=[Depends(dependency)])
    async with service, service.raw_connection() as peer:
        await peer.get(path, "Connection: close")
        await peer.read_until(b"item")
        if outcome == "client_abort":
            peer.reset()
        else:
            with suppress(ConnectionResetError):
                await peer.read_to_end()
        assert await service.outcome_of(f"GET {path}") == outcome
        async with asyncio.timeout(PATIENCE):
            while not ran:
                await asyncio.sleep(0.01)
    assert ran == ["ran"]


@pytest.mark.parametrize("fails", [True, False])
async def test_the_background_task_of_a_generator_runs_once(serve: Any, fails: bool) -> None:
    router, ran = APIRouter(), asyncio.Event()
    calls: list[bool] = []

    def dependency(tasks: BackgroundTasks) -> None:
        tasks.add_task(calls.append, fails)

    @router.get("/lines", dependencies=[Depends(dependency)])
    async def lines(background: BackgroundTasks) -> AsyncIterable[str]:
        yield "item"
        background.add_task(ran.set)  # As late as possible.
        if fails:
            raise ZeroDivisionError

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/lines", "Connection: close")
        await peer.read_to_end()
    await service.in_server(asyncio.wait_for(ran.wait(), PATIENCE))
    assert calls == [fails]
