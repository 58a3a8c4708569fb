"""Runs as the tutorials write them: a generator, which whoever asks for its events runs anew."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter

router = APIRouter()

RUNS: dict[str, Callable[..., AsyncIterator[Any]]] = {}


def run(name: str, router: APIRouter = router) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        RUNS[name] = function
        return function

    return register


@run("counter")
async def counter(count: int = 10, interval: float = 1.0) -> AsyncIterator[dict[str, int]]:
    for number in range(1, count + 1):
        yield {"number": number, "of": count}
        await asyncio.sleep(interval)
