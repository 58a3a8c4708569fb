"""Storage: immutable files, ordered records, and recovery after a crash."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.kernel.threads import repeating
from {{cookiecutter.package_name}}.engine.storage import Draft, claims, local
from {{cookiecutter.package_name}}.engine.storage.claims import Claim
from {{cookiecutter.package_name}}.engine.storage.local import LocalStorage
from {{cookiecutter.package_name}}.engine.storage.part import import_files, open_storage
from {{cookiecutter.package_name}}.engine.storage.records import new_id

from .. import stores
from ..peer import PATIENCE
from ..service import Service, make_settings
from .stored import SEVERAL_PARTS, fail, files, local_storage, opened, store

G21 = pytest.mark.fault("G21")
UNKNOWN = "01a203f1-0be9-76ef-96de-a7f65289fcd1"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_files_are_listed_in_order_of_completion(service: Service) -> None:
    ids = [await store(service, b"x", filename=f"{number}.txt") for number in range(5)]
    async with service.client() as client:
        response = await client.get("/files")
        *records, end = lines(response.text)
        middle = records[1]["cursor"]
        page = lines((await client.get(f"/files?after={middle}&limit=2")).text)

    assert response.headers["content-type"] == "application/jsonl"
    assert [record["id"] for record in records] == ids
    assert end == {"$end": {"count": 5}}
    assert [record.get("id") for record in page] == [ids[2], ids[3], None]
    assert page[-1] == {"$end": {"count": 2, "next": page[1]["cursor"]}}


async def test_a_record_tells_what_is_known_of_a_file(service: Service) -> None:
    file_id = await store(service, b"hello", filename="a.txt", content_type="text/plain")
    async with service.client() as client:
        record = (await client.get(f"/files/{file_id}/record")).json()

    assert record.pop("created_at").endswith("Z")
    assert record.pop("url").startswith(f"{service.url}/files/{file_id}")
    assert record == {
        "id": file_id,
        "filename": "a.txt",
        "content_type": "text/plain",
        "size": 5,
        "digest": None,
        "metadata": {},
        "owner": None,
    }


async def test_a_public_url_is_what_addresses_begin_with(serve: Any) -> None:
    service: Service = await serve(server={"public_url": "https://files.example.com/base/"})
    file_id = await store(service, b"x")
    async with service.client() as client:
        url = (await client.get(f"/files/{file_id}/record")).json()["url"]

    assert url.startswith(f"https://files.example.com/base/files/{file_id}")


async def test_a_file_is_not_deleted_on_a_condition_that_is_false(service: Service) -> None:
    file_id = await store(service, b"x")
    async with service.client() as client:
        address = f"/files/{file_id}"
        refused = await client.delete(address, headers={"If-Match": '"another"'})
        deleted = await client.delete(address, headers={"If-Match": f'"{file_id}"'})
    assert [refused.status_code, deleted.status_code] == [412, 204]


async def test_a_deleted_file_is_gone(service: Service, tmp_path: Path) -> None:
    file_id = await store(service, b"x")
    async with service.client() as client:
        assert (await client.delete(f"/files/{file_id}")).status_code == 204
        assert (await client.delete(f"/files/{file_id}")).status_code == 404
        assert (await client.get(f"/files/{file_id}/record")).status_code == 404

    assert await files(service) == []
    assert stores.traces(tmp_path / "data", file_id) == []


@pytest.mark.trap("D1")
@pytest.mark.parametrize(
    "name", [UNKNOWN, "nope", "..%2f..%2fetc%2fpasswd", UNKNOWN.upper(), "%00", "x" * 300]
)
async def test_an_unknown_id_is_404(service: Service, name: str) -> None:
    async with service.client() as client:
        for method, path in (("GET", f"/files/{name}/record"), ("DELETE", f"/files/{name}")):
            assert (await client.request(method, path)).status_code == 404


async def test_two_stores_of_one_directory_see_the_same_files(tmp_path: Path) -> None:
    settings = make_settings(storage={"url": f"file:{tmp_path / 'data'}"}).storage
    async with open_storage(settings) as one, open_storage(settings) as other:
        async with one.create(Draft(filename="a")) as writer:
            await writer.write(b"abc")
            record = await one.commit(writer)

        assert await other.record(record.id) == record
        assert [chunk async for chunk in other.read(record.id, 1, 3)] == [b"bc"]


async def test_the_sweep_leaves_the_living_alone(tmp_path: Path) -> None:
    size = SEVERAL_PARTS
    async with opened(tmp_path) as storage:
        async with storage.create(Draft(filename="a")) as writer:
            await writer.write(b"x" * size)
            await storage.sweep()
            record = await storage.commit(writer)
            await storage.sweep()

        assert (await storage.record(record.id)).size == size
        assert sum([len(chunk) async for chunk in storage.read(record.id, 0, size)]) == size


@pytest.mark.local
@pytest.mark.parametrize("state", ["part", "renamed", "committed"])
async def test_recovery_finishes_what_a_crash_interrupted(tmp_path: Path, state: str) -> None:
    """A writer can die before the rename, before the commit, and after it."""
    storage = local_storage(tmp_path)
    async with storage.create(Draft(filename="a")) as writer:
        record = await storage.commit(writer)
    lock = tmp_path / "parts" / f"{record.id}.lock"
    claim = Claim.take(lock)
    assert claim is not None
    if state != "committed":
        await storage.catalogue.remove(record.id)
    if state == "part":
        storage.path(record.id).rename(tmp_path / "parts" / f"{record.id}.part")
    await storage.close()
    lock.touch()
    claim.release()
    lock.touch()  # A process that died leaves an unlocked claim.

    settings = make_settings(storage={"url": f"file:{tmp_path}"}).storage
    async with open_storage(settings) as recovered:
        listed = [entry.id async for _, entry in recovered.records()]

    assert listed == ([record.id] if state == "committed" else [])
    assert storage.path(record.id).exists() == (state == "committed")
    assert list((tmp_path / "parts").iterdir()) == []


@pytest.mark.local
def test_a_claim_excludes_everybody_else(tmp_path: Path) -> None:
    claim = Claim.take(tmp_path / "a.lock")
    assert claim is not None
    assert Claim.take(tmp_path / "a.lock") is None
    claim.release()

    again = Claim.take(tmp_path / "a.lock")
    assert again is not None
    again.release()
    assert list(tmp_path.iterdir()) == []


async def test_serve_import_stores_files_that_are_here_already(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    settings = make_settings(storage={"url": f"file:{tmp_path / 'data'}"})

    def run() -> int | str | None:
        with pytest.raises(SystemExit) as exit_:
            import_files(settings, [str(tmp_path / "a.txt"), str(tmp_path / "missing")])
        return exit_.value.code

    assert await anyio.to_thread.run_sync(run) == 1
    printed = capsys.readouterr()
    assert "missing: No such file" in printed.err
    async with open_storage(settings.storage) as storage:
        [record] = [record async for _, record in storage.records()]
    assert printed.out == f"{record.id} a.txt\n"
    assert (record.filename, record.content_type, record.size) == ("a.txt", "text/plain", 5)


async def claimed(service: Service, tmp_path: Path, file_id: str) -> Callable[[], Awaitable[None]]:
    """Claim a file as another process would; return the function that releases it."""
    if stores.SERVER:
        storage = service.app.state.storage
        lease = await service.in_server(storage.leases.take(file_id))
        assert lease is not None
        return lambda: service.in_server(lease.release())
    claim = Claim.take(tmp_path / "data" / "parts" / f"{file_id}.lock")
    assert claim is not None

    async def release() -> None:
        claim.release()

    return release


async def test_a_file_can_be_deleted_while_a_sweep_looks_at_it(
    service: Service, tmp_path: Path
) -> None:
    file_id = await store(service, b"x")
    release = await claimed(service, tmp_path, file_id)
    async with service.client() as client:
        deletion = asyncio.create_task(client.delete(f"/files/{file_id}"))
        # This response comes after the deletion has found the claim taken.
        assert (await client.get(f"/files/{file_id}/record")).status_code == 200
        await release()
        assert (await deletion).status_code == 204


async def test_one_failure_does_not_end_the_sweeping() -> None:
    swept = asyncio.Event()
    calls = iter([OSError("once"), None])

    async def sweep() -> None:
        if error := next(calls, None):
            raise error
        swept.set()

    async with repeating(0.01, sweep), asyncio.timeout(PATIENCE):
        await swept.wait()


@pytest.mark.local
async def test_a_catalogue_without_room_is_told_and_files_can_still_be_deleted(
    service: Service,
) -> None:
    storage = service.app.state.storage
    file_id = await store(service, b"x")
    await service.call(lambda: storage.catalogue.execute("PRAGMA max_page_count = 1"))
    with pytest.raises(Problem, match="507"):
        for _ in range(200):
            await store(service, b"", filename="n" * 255)

    async with service.client() as client:
        assert (await client.delete(f"/files/{file_id}")).status_code == 204


@pytest.mark.local
async def test_a_record_is_removed_even_when_only_the_bytes_can_make_room(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = await store(service, b"x")
    storage = service.app.state.storage
    real = storage.catalogue.remove

    async def remove(file_id: str) -> Any:
        if storage.path(file_id).exists():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            with storage.place.guarding():
                raise error
        return await real(file_id)

    monkeypatch.setattr(storage.catalogue, "remove", remove)
    async with service.client() as client:
        assert (await client.delete(f"/files/{file_id}")).status_code == 204
    assert await files(service) == []


@pytest.mark.local
async def test_a_claim_that_nobody_waits_for_any_more_is_given_back(tmp_path: Path) -> None:
    path, opened = tmp_path / "x.lock", threading.Event()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(opened.wait, PATIENCE)
        taking = asyncio.create_task(Claim.take_in_thread(threads, path))
        await asyncio.sleep(0)
        taking.cancel()
        opened.set()
        with pytest.raises(asyncio.CancelledError):
            await taking

    again = Claim.take(path)
    assert again is not None
    again.release()


@pytest.mark.local
@pytest.mark.fault("G39")
async def test_a_deletion_succeeds_when_the_bytes_cannot_be_removed_yet(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = service.app.state.storage
    file_id = await store(service, b"x")
    async with service.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(storage, "_unlink", fail)
            assert (await client.delete(f"/files/{file_id}")).status_code == 204
        assert (await client.delete(f"/files/{file_id}")).status_code == 404
    assert storage.path(file_id).exists()
    await service.in_server(storage.sweep())
    assert not storage.path(file_id).exists()


@pytest.mark.local
@pytest.mark.fault("G39")
async def test_a_file_that_cannot_be_removed_does_not_end_a_recovery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = local_storage(tmp_path)
    parts = [tmp_path / "parts" / f"{new_id()}.part" for _ in range(3)]
    for part in parts:
        part.touch()
    real = storage._unlink

    def unlink(paths: list[Path]) -> None:
        if parts[0] in paths:
            fail()
        real(paths)

    monkeypatch.setattr(storage, "_unlink", unlink)
    await storage.recover()
    await storage.close()

    assert [part.exists() for part in parts] == [True, False, False]


async def put(storage: LocalStorage) -> Path:
    """Store an empty file and return its path."""
    async with storage.create(Draft(filename="a")) as writer:
        return storage.path((await storage.commit(writer)).id)


@pytest.mark.local
@G21
async def test_folders_are_made_when_a_file_needs_them(tmp_path: Path) -> None:
    storage = local_storage(tmp_path)
    assert list((tmp_path / "files").iterdir()) == []

    path = await put(storage)

    assert list((tmp_path / "files").iterdir()) == [path.parent]
    await storage.close()


@pytest.mark.local
@G21
async def test_a_folder_is_durable_before_a_file_in_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that another process has made may not be durable yet."""
    steps: list[tuple[str, bool]] = []

    def sync(folder: Path) -> None:
        steps.append((folder.name, any(folder.glob("*-*"))))

    stores = [local_storage(tmp_path) for _ in range(2)]
    monkeypatch.setattr(local, "_sync_folder", sync)
    monkeypatch.setattr(claims, "new_id", lambda: new_id()[:-2] + "7f")
    for _ in range(2):
        for storage in stores:
            await put(storage)

    new, old = [("files", False), ("7f", True)], [("7f", True)]
    assert steps == [*new, *new, *old, *old]
    for storage in stores:
        await storage.close()


@pytest.mark.local
@G21
async def test_processes_make_one_folder_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "new_id", lambda: new_id()[:-2] + "7f")
    stores = [local_storage(tmp_path) for _ in range(3)]
    paths = await asyncio.gather(*(put(storage) for storage in stores * 8))

    assert sorted((tmp_path / "files" / "7f").iterdir()) == sorted(paths)
    for storage in stores:
        await storage.close()
