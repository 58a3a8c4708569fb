"""Fixtures: a file on each server, with each way of sending."""

from collections.abc import AsyncIterator

import pytest

from ...storage.stored import store
from ..servers import WAYS, serving
from .served import DATA, Served


@pytest.fixture(scope="package")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="package", params=WAYS)
async def file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    directory = tmp_path_factory.mktemp("files") / "data"
    async with serving(request.param, storage={"url": f"file:{directory}"}) as service:
        file_id = await store(service, DATA, filename="hällo.txt", content_type="text/plain")
        record = await service.in_server(service.app.state.storage.record(file_id))
        yield Served(service, file_id, record.created_at.replace(microsecond=0))
