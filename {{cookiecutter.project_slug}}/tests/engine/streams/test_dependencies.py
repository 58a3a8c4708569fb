"""Dependencies with `yield`: when their exit code runs, as docs/extending.md describes."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import APIRouter, Depends, Request

from {{cookiecutter.package_name}}.engine.kernel.exchange import exchange_of
from {{cookiecutter.package_name}}.engine.streams import ByteStream

from ..service import Service


class Work:
    """The steps of a request, with a transaction around it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.fails = False
        self.router = APIRouter()
        late, early = Depends(self.transaction), Depends(self.transaction, scope="function")
        self.router.post("/late", dependencies=[late])(self.work)
        self.router.post("/early", dependencies=[early])(self.work)
        self.router.post("/stream", dependencies=[late], response_class=ByteStream)(self.stream)

    async def transaction(self, request: Request) -> AsyncGenerator[None]:
        exchange = exchange_of(request.scope)
        try:
            yield
        except Exception as error:
            self.told.append(f"rolled back: {type(error).__name__}")
            raise
        if self.fails:
            raise RuntimeError("the commit failed")
        self.told.append("committed behind" if exchange.response_complete else "committed before")

    async def work(self) -> str:
        self.begun.set()
        await self.go_on.wait()
        return "done"

    async def stream(self) -> ByteStream:
        async def source() -> AsyncGenerator[bytes]:
            yield b"first"
            yield (await self.work()).encode()

        return ByteStream(source())


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/late", "committed behind"),
        ("/early", "committed before"),
        ("/stream", "committed behind"),
    ],
)
async def test_a_transaction_is_committed_before_or_behind_the_answer(
    serve: Any, path: str, told: str
) -> None:
    work = Work()
    service: Service = await serve(work.router)
    await service.call(work.go_on.set)
    async with service.client() as client:
        assert (await client.post(path)).status_code == 200

    assert await service.outcome_of(f"POST {path}") == "complete"
    assert work.told == [told]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/late", "committed behind"),
        ("/early", "committed before"),
        ("/stream", "rolled back: ClientDisconnect"),
    ],
)
async def test_only_a_stream_sees_that_its_client_has_left(
    serve: Any, path: str, told: str
) -> None:
    work = Work()
    service: Service = await serve(work.router)
    async with service.raw_connection() as peer:
        await peer.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        await service.in_server(work.begun.wait())
        peer.reset()
    if path == "/stream":
        assert await service.outcome_of("POST /stream") == "client_abort"
    else:
        await service.call(work.go_on.set)
        assert await service.outcome_of(f"POST {path}") == "complete"

    assert work.told == [told]


@pytest.mark.parametrize(("path", "status"), [("/late", 200), ("/early", 500)])
async def test_a_commit_that_fails_is_told_when_it_comes_before_the_answer(
    serve: Any, path: str, status: int
) -> None:
    work = Work()
    work.fails = True
    service: Service = await serve(work.router)
    await service.call(work.go_on.set)
    async with service.client() as client:
        assert (await client.post(path)).status_code == status
