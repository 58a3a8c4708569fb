"""Dependencies with `yield` of plain streams: they continue with the end of the stream."""

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from .routes import Source


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
