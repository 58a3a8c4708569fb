"""The cache of open files: bounded, and without deleted files."""

import asyncio
import hashlib
import os
import random
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.storage import base, local

from ..peer import PATIENCE
from ..service import Service
from ..storage.stored import store

pytestmark = [pytest.mark.local, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]


def open_files(service: Service) -> list[str]:
    """Return the stored files that this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # The descriptor of the listing itself.
            links.append(str(descriptor.readlink()))
    folder = f"{service.app.state.storage.root / 'files'}{os.sep}"
    return [link for link in links if link.startswith(folder)]


async def settled(service: Service) -> None:
    """Wait until all threads of the store are idle: a barrier for them."""
    meeting = threading.Barrier(base.THREADS)
    threads = service.app.state.storage.threads
    done = [threads.submit(meeting.wait, PATIENCE) for _ in range(base.THREADS)]
    await asyncio.gather(*map(asyncio.wrap_future, done))


async def test_a_file_is_opened_once_for_many_readers(service: Service) -> None:
    data = random.randbytes(100_000)
    file_id = await store(service, data)
    async with service.client() as client:
        answers = await asyncio.gather(*(client.get(f"/files/{file_id}") for _ in range(20)))

    assert {hashlib.sha256(answer.content).digest() for answer in answers} == {
        hashlib.sha256(data).digest()
    }
    await settled(service)
    assert len(open_files(service)) == 1


async def test_only_the_files_read_last_stay_open(serve: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(local, "OPEN_FILES", 3)
    service: Service = await serve()
    file_ids = [await store(service, b"x") for _ in range(6)]
    async with service.client() as client:
        for file_id in [*file_ids, file_ids[3]]:
            assert (await client.get(f"/files/{file_id}")).content == b"x"

    await settled(service)
    assert {link.rpartition("/")[2] for link in open_files(service)} == set(file_ids[3:])


async def test_a_deleted_file_is_closed_at_once(service: Service) -> None:
    file_id = await store(service, b"x")
    async with service.client() as client:
        await client.get(f"/files/{file_id}")
        assert (await client.delete(f"/files/{file_id}")).status_code == 204
        await settled(service)
        assert open_files(service) == []
        assert (await client.get(f"/files/{file_id}")).status_code == 404


async def test_a_file_that_another_process_deleted_is_gone_here_too(service: Service) -> None:
    file_id = await store(service, b"x")
    storage = service.app.state.storage
    async with service.client() as client:
        await client.get(f"/files/{file_id}")
        await service.in_server(storage.catalogue.remove(file_id))
        storage.path(file_id).unlink()
        assert (await client.get(f"/files/{file_id}")).status_code == 404

    await settled(service)
    assert open_files(service) == []


async def test_the_sweep_lets_go_of_what_another_process_deleted(service: Service) -> None:
    file_id = await store(service, b"x")
    storage = service.app.state.storage
    async with service.client() as client:
        await client.get(f"/files/{file_id}")
    storage.path(file_id).unlink()
    await service.in_server(storage.sweep())

    await settled(service)
    assert open_files(service) == []


async def test_a_file_that_is_opened_for_nobody_is_closed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = await store(service, random.randbytes(100_000))
    opening, left = threading.Event(), threading.Event()
    original = os.open

    def wait(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(file_id):
            opening.set()
            left.wait(PATIENCE)
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", wait)
    async with service.raw_connection() as peer:
        await peer.get(f"/files/{file_id}")
        await asyncio.to_thread(opening.wait, PATIENCE)
        peer.reset()
    async with service.client() as client:  # The event loop has handled the reset before this.
        await client.get("/health/live")
    left.set()

    assert await service.outcome_of("GET /files/{file_id}") == "client_abort"
    await settled(service)
    assert open_files(service) == []
