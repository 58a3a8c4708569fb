"""Exports: typed rows, made as they are sent, in the format that the client accepts.

A new export is one decorated asynchronous generator in this file: its parameters become query
parameters, its docstring the documentation. Its first row is made before the headers are sent, so
it may still raise a Problem. When the client leaves it is closed at once: open what it needs with
`async with` or `try … finally`.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from ..streaming import ByteStream
from .formats import FORMATS, negotiate

Export = TypeVar("Export", bound=Callable[..., AsyncGenerator[Any]])

router = APIRouter()


def export(name: str) -> Callable[[Export], Export]:
    """Register a generator of models as `GET /exports/{name}`."""

    def register(rows: Export) -> Export:
        async def send(request: Request, **query: Any) -> ByteStream:
            answer = negotiate(",".join(request.headers.getlist("accept")))
            return answer(rows(**query))

        # The parameters that FastAPI sees: the request, and those of the generator.
        given = inspect.signature(rows).parameters.values()
        own = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        keywords = [own, *(parameter.replace(kind=own.kind) for parameter in given)]
        endpoint: Any = send
        endpoint.__signature__ = inspect.Signature(keywords)
        router.get(
            f"/exports/{name}",
            name=f"export_{name}",
            description=inspect.getdoc(rows),
            response_class=ByteStream,
            responses={200: {"content": {media_type: {} for media_type in FORMATS}}},
        )(endpoint)
        return rows

    return register


class Line(BaseModel):
    """A row of the example."""

    number: int
    text: str


@export("lines")
async def lines(
    count: Annotated[int, Query(ge=0, le=10_000_000)] = 10,
    fail_after: Annotated[int | None, Query(ge=0, description="Fail behind this row.")] = None,
) -> AsyncGenerator[Line]:
    """Numbered lines; `fail_after` shows what a client sees of a failure half-way."""
    for number in range(1, count + 1):
        if number - 1 == fail_after:
            raise RuntimeError(f"the example failed behind line {fail_after}")
        await asyncio.sleep(0)  # Stands for whatever a real source waits for.
        yield Line(number=number, text=f"line {number}")
