"""Many unfinished uploads at once, which need more memory than there is."""

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.storage.s3.body import SMALL

from ..peer import PATIENCE
from ..service import Service
from .partials import DATA
from .servers import bucket_url, endpoint_url

__all__ = ["bucket_url", "endpoint_url"]
COUNT, SIZE, LIMIT = 24, 1 << 20, 4 << 20


@pytest.mark.bound("14.3")
async def test_slow_uploads_go_on_at_the_same_time(
    serve: Callable[..., Any], bucket_url: str, endpoint_url: str
) -> None:
    service: Service = await serve(
        storage={"url": bucket_url, "endpoint_url": endpoint_url, "redis_url": None}
        | {"max_buffered": LIMIT},
        streaming={"idle_timeout": PATIENCE, "send_timeout": PATIENCE},
    )
    exchanges: list[Any] = []
    service.app.state.kernel.on_open.append(exchanges.append)
    head = b"POST /files HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = b"%x\r\n" % SIZE
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(service.raw_connection()) for _ in range(COUNT)]
        for peer in peers:
            await peer.send(head + before + DATA[:SIZE] + b"\r\n")
        async with asyncio.timeout(PATIENCE):
            while sum(each.bytes_in for each in exchanges) < COUNT * SIZE:
                await asyncio.sleep(0.01)
            # Those that found no memory are in files, except for their last bytes.
            pool = service.app.state.storage.pool
            while await service.call(lambda: pool.buffered) > LIMIT + COUNT * SMALL:
                await asyncio.sleep(0.01)
        ids: list[str] = []
        # The last one that has begun is the first to end: none waits for another.
        for peer in reversed(peers):
            await peer.send(before + DATA[SIZE : 2 * SIZE] + b"\r\n0\r\n\r\n")
            response = await peer.read_head()
            assert response.startswith(b"HTTP/1.1 201 ")
            ids += re.findall(r"\r\nlocation: \S*/files/([\w-]+)", response.decode().lower())
        assert await service.call(lambda: pool.buffered) == 0

    async def content(file_id: str) -> bytes:
        chunks = service.app.state.storage.read(file_id, 0, 2 * SIZE)
        return b"".join([chunk async for chunk in chunks])

    assert len(ids) == COUNT
    for file_id in ids:
        assert await service.in_server(content(file_id)) == DATA[: 2 * SIZE]
