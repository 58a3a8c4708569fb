"""Batches of rows: large ones from a fast source, prompt ones from a slow source."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.streams import ByteStream, JsonLines
from {{cookiecutter.package_name}}.engine.streams.rows import (
    BATCH_BYTES,
    BATCH_ROWS,
    in_batches,
)

from ..peer import PATIENCE
from ..service import Service

BATCH_SECONDS = "{{cookiecutter.package_name}}.engine.streams.rows.BATCH_SECONDS"
ROW = b"x" * 127 + b"\n"
PER_BATCH = BATCH_BYTES // len(ROW)


class Row(BaseModel):
    a: int = 1


class Source:
    """A source of rows that never waits, and records its end."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0
        self.closed = asyncio.Event()
        self.tasks: set[Any] = set()

    async def rows(self) -> AsyncGenerator[bytes]:
        try:
            while self.made < self.count:
                self.tasks.add(asyncio.current_task())
                self.made += 1
                yield ROW
        finally:
            await asyncio.sleep(0)  # Cleanup that awaits, like closing a connection.
            self.tasks.add(asyncio.current_task())
            self.closed.set()


def same(row: bytes) -> bytes:
    return row


def serving(rows: Any) -> APIRouter:
    router = APIRouter()

    @router.get("/rows", response_class=JsonLines)
    async def answer() -> JsonLines:
        return JsonLines(rows())

    return router


async def test_a_fast_source_fills_batches() -> None:
    source = Source(count=3 * PER_BATCH + 5)
    sent = [chunk async for chunk in in_batches(source.rows(), same, lambda: b"end")]

    assert [len(chunk) for chunk in sent] == [*[BATCH_BYTES] * 3, 5 * len(ROW) + 3]
    assert sent[-1] == ROW * 5 + b"end"


async def test_batches_of_small_rows_are_smaller() -> None:
    rows = Source(count=BATCH_ROWS + 1).rows()
    assert [chunk async for chunk in in_batches(rows, lambda _: b".")] == [b"." * BATCH_ROWS, b"."]


async def test_one_batch_is_made_ahead_and_others_run_meanwhile() -> None:
    source = Source(count=100 * PER_BATCH)
    steps = []
    async with aclosing(in_batches(source.rows(), same)) as sent:
        for taken in range(1, 4):
            assert len(await anext(sent)) == BATCH_BYTES
            for _ in range(10):
                steps.append(-source.made)
                await asyncio.sleep(0)
                steps[-1] += source.made
            assert source.made == (taken + 1) * PER_BATCH
    assert max(steps) <= PER_BATCH


async def test_the_clock_ends_a_batch_also_when_the_source_never_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BATCH_SECONDS, 0)
    sent = [chunk async for chunk in in_batches(Source(count=3).rows(), same)]
    assert sent == [ROW] * 3


async def test_a_source_runs_in_one_task_and_leaves_none() -> None:
    source = Source(count=100 * PER_BATCH)
    before = asyncio.all_tasks()
    async with aclosing(in_batches(source.rows(), same)) as sent:
        await anext(sent)

    assert source.closed.is_set()
    assert len(source.tasks) == 1
    assert asyncio.all_tasks() == before


async def test_a_slow_source_does_not_keep_its_rows_back(serve: Any) -> None:
    seen = asyncio.Event()

    async def rows() -> AsyncGenerator[Row]:
        yield Row(a=1)
        await seen.wait()
        yield Row(a=2)

    service: Service = await serve(serving(rows))
    async with service.raw_connection() as peer:
        await peer.get("/rows")
        await peer.read_until(b'{"a":1}\n')  # Then the source continues.
        await service.call(seen.set)
        await peer.read_until(b'{"a":2}\n{"$end":{"count":2}}\n')


async def test_a_list_of_rows_goes_out_at_once(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BATCH_SECONDS, 2 * PATIENCE)
    seen = asyncio.Event()

    async def rows() -> AsyncGenerator[list[Row]]:
        yield [Row(a=1), Row(a=2)]
        await seen.wait()

    service: Service = await serve(serving(rows))
    async with service.raw_connection() as peer:
        await peer.get("/rows")
        await peer.read_until(b'{"a":1}\n{"a":2}\n')
        await service.call(seen.set)
        await peer.read_until(b'{"$end":{"count":2}}\n')


async def test_an_error_before_the_first_row_is_the_answer(serve: Any) -> None:
    async def rows() -> AsyncGenerator[Row]:
        await asyncio.sleep(0)
        raise Problem(404, "not here")
        yield Row()

    service: Service = await serve(serving(rows))
    async with service.client() as client:
        assert (await client.get("/rows")).status_code == 404


async def test_an_error_comes_behind_the_rows_before_it(serve: Any) -> None:
    async def rows() -> AsyncGenerator[Row]:
        yield Row()
        raise ValueError

    service: Service = await serve(serving(rows))
    async with service.raw_connection() as peer:
        await peer.get("/rows")
        await peer.read_until(b'{"a":1}\n')
        assert b'{"$error":' in await peer.read_to_end()
    assert await service.outcome_of("GET /rows") == "server_error"


async def test_a_source_that_is_cancelled_by_its_own_doing_never_looks_complete(serve: Any) -> None:
    router = APIRouter()

    async def rows() -> AsyncGenerator[bytes]:
        yield ROW
        raise asyncio.CancelledError

    @router.get("/rows", response_class=ByteStream)
    async def answer() -> ByteStream:
        return ByteStream(in_batches(rows(), same))

    service: Service = await serve(router)
    async with service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/rows")


async def test_an_error_of_a_source_that_cleans_up_is_not_lost() -> None:
    async def rows() -> AsyncGenerator[bytes]:
        try:
            yield ROW
            await asyncio.Event().wait()
        finally:
            raise OSError("not closed")

    sent = in_batches(rows(), same)
    assert await anext(sent) == ROW
    with pytest.raises(OSError, match="not closed"):
        await sent.aclose()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("waits", [False, True])
async def test_the_source_is_closed_when_the_client_leaves(serve: Any, waits: bool) -> None:
    closed = asyncio.Event()

    async def rows() -> AsyncGenerator[Row]:
        try:
            yield Row()
            if waits:
                await asyncio.Event().wait()
            for number in range(10_000_000):
                yield Row(a=number)
        finally:
            await asyncio.sleep(0)
            closed.set()

    service: Service = await serve(serving(rows))
    async with service.raw_connection() as peer:
        await peer.get("/rows")
        await peer.read_until(b'{"a":1}\n')
        peer.reset()

        assert await service.outcome_of("GET /rows") == "client_abort"
    assert closed.is_set()
