"""The memory that a long run holds, and what a client of it receives."""

import gc
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime import Message, RunRouter

from ..service import Service
from .runs import follow, start

TOKENS, LIMIT = 10_000, 4 << 20


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
    gc.collect()
    before, known = tracemalloc.get_traced_memory()[0], ledger.size
    run_id = await start(service, "long")
    await follow(service, run_id)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    text, _ = await follow(service, run_id)

    assert 0 < held <= LIMIT
    assert held <= (ledger.size - known) * 1.5, "not counted"
    assert text["data"] == "".join(f"token{number} " for number in range(TOKENS))
