"""The memory that a long run holds, and what a client of it receives."""

import gc
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}} import engine
from {{cookiecutter.package_name}}.engine.realtime import Message, RunRouter

from ..service import Service
from .runs import follow, start

TOKENS, LIMIT = 10_000, 4 << 20
#: The code whose memory counts; the client is in other files.
COUNTED = [str(Path(engine.__file__).parent / "*"), __file__]


def held() -> int:
    """Return the bytes that the engine, and the run in this file, have allocated."""
    gc.collect()
    filters = [tracemalloc.Filter(True, pattern) for pattern in COUNTED]
    snapshot = tracemalloc.take_snapshot().filter_traces(filters)
    return sum(trace.size for trace in snapshot.traces)


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@pytest.mark.slow
async def test_a_run_of_10_000_tokens_holds_at_most_4_mib(serve: Callable[..., Any]) -> None:
    router = RunRouter(prefix="/runs")

    def joined(messages: list[Message]) -> list[Message]:
        return [Message("".join(message.data for message in messages))]

    @router.run("/long", compact=joined)
    async def long() -> AsyncGenerator[str]:
        for number in range(TOKENS):
            yield f"token{number} "

    service: Service = await serve(router)
    await follow(service, await start(service, "long"))  # Fills caches.
    ledger = service.app.state.hub.ledger
    await service.ended("GET /runs/{run_id}/events")
    before, known = held(), ledger.size
    run_id = await start(service, "long")
    await follow(service, run_id)
    await service.ended("GET /runs/{run_id}/events")
    grown, counted = held() - before, ledger.size - known
    text, _ = await follow(service, run_id)

    assert 0 < grown <= LIMIT
    assert grown <= counted * 1.5, "not counted"
    assert text["data"] == "".join(f"token{number} " for number in range(TOKENS))
