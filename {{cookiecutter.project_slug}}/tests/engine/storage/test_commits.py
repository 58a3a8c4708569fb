"""Commits: a file is listed when all of its bytes are durable, and otherwise leaves no trace."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.kernel.threads import complete
from {{cookiecutter.package_name}}.engine.storage import Callbacks, Draft
from {{cookiecutter.package_name}}.engine.storage.local import LocalStorage
from {{cookiecutter.package_name}}.engine.storage.place import unavailable
from {{cookiecutter.package_name}}.engine.storage.records import FileRecord

from .. import stores
from ..service import make_settings
from .stored import SEVERAL_PARTS, fail, local_storage, opened


async def test_leaving_without_a_commit_removes_every_trace(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        async with storage.create(Draft(filename="a")) as writer:
            await writer.write(b"x" * SEVERAL_PARTS)

        assert stores.traces(tmp_path, writer.id) == []


async def test_a_store_commits_only_its_own_writers(tmp_path: Path) -> None:
    writer: Any = object()
    async with opened(tmp_path) as storage:
        with pytest.raises(TypeError, match="another store"):
            await storage.commit(writer)


async def test_a_commit_that_is_cancelled_adds_the_record_of_durable_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery would add a record without the digest."""
    digest, is_durable, may_end = {"sha-256": "eA=="}, asyncio.Event(), asyncio.Event()
    async with opened(tmp_path) as storage, storage.create(Draft(filename="a")) as writer:
        make_durable = storage.make_durable

        async def wait(writer: Any) -> None:
            await make_durable(writer)
            is_durable.set()
            await may_end.wait()

        monkeypatch.setattr(storage, "make_durable", wait)
        committing = asyncio.create_task(storage.commit(writer, digest))
        await is_durable.wait()
        committing.cancel()
        may_end.set()

        with pytest.raises(asyncio.CancelledError):
            await committing

        assert (await storage.record(writer.id)).digest == digest


async def test_a_commit_goes_to_its_end_however_often_it_is_cancelled() -> None:
    steps = []

    async def commit() -> None:
        for step in range(5):
            await asyncio.sleep(0)
            steps.append(step)

    task = asyncio.create_task(complete(commit()))
    while not task.done():
        await asyncio.sleep(0)
        task.cancel()

    assert task.cancelled()
    assert steps == [0, 1, 2, 3, 4]


@pytest.mark.local
@pytest.mark.fault("G39")
@pytest.mark.parametrize("is_moved", [False, True])
async def test_a_file_is_not_listed_when_its_commit_failed_after_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_moved: bool
) -> None:
    """A directory that is moved in this moment has the record, and is moved back later."""
    root, kept = tmp_path / "data", tmp_path / "kept"
    storage = local_storage(root)
    real = storage.catalogue.execute

    def execute(statement: str, *values: object) -> list[tuple[Any, ...]]:
        rows = real(statement, *values)
        if statement.startswith("INSERT"):
            if not is_moved:
                fail()
            root.rename(kept)
        return rows

    monkeypatch.setattr(storage.catalogue, "execute", execute)
    with pytest.raises(Problem, match="503"):
        async with storage.create(Draft(filename="a")) as writer:
            await storage.commit(writer)
    if is_moved:
        kept.rename(root)
        await storage.sweep()

    assert [record async for _, record in storage.records()] == []
    assert [path for path in root.rglob("*") if writer.id in path.name] == []
    await storage.close()


@pytest.mark.local
@pytest.mark.fault("G39")
async def test_an_upload_is_acknowledged_when_its_announcement_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise unavailable()

    async def stored(_: FileRecord) -> None:
        monkeypatch.setattr(storage.place, "check", gone)

    storage = LocalStorage(
        make_settings(storage={"url": f"file:{tmp_path}"}).storage, [Callbacks(on_stored=stored)]
    )
    async with storage.create(Draft(filename="a")) as writer:
        record = await storage.commit(writer)

    assert (await storage.record(record.id)).id == record.id
    await storage.close()
