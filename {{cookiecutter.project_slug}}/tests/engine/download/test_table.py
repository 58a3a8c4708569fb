"""The export of a table: page by page, without holding a connection for a slow client."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from {{cookiecutter.package_name}} import exports
from {{cookiecutter.package_name}}.engine.download import ExportRouter

from ..peer import PATIENCE
from ..service import Service


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of open connections, and of all that were opened."""
    counts = [0, 0]

    class Counted(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            counts[0] += 1
            counts[1] += 1

        def close(self) -> None:
            counts[0] -= 1
            super().close()

    counting = SimpleNamespace(connect=partial(sqlite3.connect, factory=Counted), Row=sqlite3.Row)
    monkeypatch.setattr(exports, "sqlite3", counting)
    return counts


async def test_a_table_is_read_from_where_it_was_left(
    service: Service, connections: list[int]
) -> None:
    limit = 2 * exports.PAGE + 1
    async with service.client() as client:
        rows = (await client.get(f"/exports/table?after=7&limit={limit}")).text.splitlines()
        rest = (await client.get(f"/exports/table?after={exports.EXAMPLE_ROWS - 1}")).text

    assert [json.loads(row)["id"] for row in rows[:-1]] == list(range(8, 8 + limit))
    assert json.loads(rest.splitlines()[0]).keys() == exports.Measurement.model_fields.keys()
    assert rest.endswith('{"$end":{"count":1}}\n')
    assert connections[0] == 0


async def test_a_client_that_stops_reading_holds_no_connection(
    serve: Any, connections: list[int]
) -> None:
    router = ExportRouter(prefix="/exports")

    @router.export("/endless")
    async def endless() -> AsyncGenerator[exports.Measurement]:
        while True:
            async with aclosing(exports.table()) as rows:
                async for row in rows:
                    yield row

    service: Service = await serve(router, streaming={"send_timeout": PATIENCE})

    async def stalled() -> None:
        server: Any = service._server.server_state
        while not any(one.flow.write_paused for one in server.connections) or connections[0]:
            await asyncio.sleep(0)

    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get("/exports/endless", "Accept-Encoding: identity")
        await peer.read_until(b'{"id":1,')
        await service.in_server(stalled())
        assert connections[1] > 0
        peer.reset()

        assert await service.outcome_of("GET /exports/endless") == "client_abort"
    async with asyncio.timeout(PATIENCE):
        while connections[0]:  # The thread that reads the next page ends by itself.
            await asyncio.sleep(0)


@pytest.mark.bound("15.2")
@pytest.mark.parametrize("target", ["lines?count=10001", "table?limit=10001"])
async def test_no_request_has_more_rows_of_an_example_than_one_may_have(
    service: Service, target: str
) -> None:
    async with service.client() as client:
        response = await client.get(f"/exports/{target}")

    assert response.status_code == 422


@pytest.mark.parametrize(
    "target", ["lines?count=10000", pytest.param("table", marks=pytest.mark.bound("15.2"))]
)
async def test_the_longest_example_has_ten_thousand_rows(service: Service, target: str) -> None:
    async with service.client() as client:
        response = await client.get(f"/exports/{target}")

    assert response.text.endswith('{"$end":{"count":10000}}\n')
