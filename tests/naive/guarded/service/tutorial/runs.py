"""The example of a run, as a generator."""

import asyncio
from collections.abc import AsyncIterator

from streaming_service.engine.realtime import RunRouter

router = RunRouter(prefix="/runs")


@router.run("/counter")
async def counter() -> AsyncIterator[dict[str, int]]:
    for number in range(1, 11):
        yield {"number": number, "of": 10}
        await asyncio.sleep(1)
