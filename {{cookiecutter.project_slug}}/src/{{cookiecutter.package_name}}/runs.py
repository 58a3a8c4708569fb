"""Runs: jobs that continue when their client disconnects, and whose events are streamed.

A run is an asynchronous generator: its parameters are the members of the JSON body that starts it,
and it yields the data of its events.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

from pydantic import BaseModel, Field

from .engine.realtime import RunRouter

router = RunRouter(prefix="/runs", tags=["runs"])


class Tick(BaseModel):
    """An event of the example."""

    number: int
    of: int


@router.run("/counter")
async def counter(
    count: Annotated[int, Field(ge=0, le=150)] = 10,
    interval: Annotated[float, Field(ge=0, le=60, description="Seconds.")] = 1.0,
) -> AsyncGenerator[Tick]:
    """Count slowly."""
    for number in range(1, count + 1):
        yield Tick(number=number, of=count)
        await asyncio.sleep(interval)
