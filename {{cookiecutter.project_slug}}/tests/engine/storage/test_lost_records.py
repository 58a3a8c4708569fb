"""The catalogue is emptied or replaced while its files are there: the service stops, or waits."""

import asyncio
import multiprocessing
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from {{cookiecutter.package_name}}.engine.storage.catalogue import (
    CREATED,
    check_format,
)
from {{cookiecutter.package_name}}.engine.storage.local import LocalStorage

from ..service import Service, make_settings
from .stored import store
from .test_unusable import refusal

pytestmark = pytest.mark.local


def emptied(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("DELETE FROM files")


def replaced(path: Path) -> None:
    """Put an older catalogue into the file, as `.restore` of the command `sqlite3` does."""
    with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(":memory:")) as other:
        database.backup(other)
        other.executescript("DELETE FROM files; DELETE FROM sqlite_sequence;")
        other.execute("INSERT INTO files VALUES (1, 'x', '{}', 1)")
        other.commit()
        other.backup(database)


def removed(path: Path) -> None:
    for each in path.parent.glob("catalogue.sqlite3*"):
        each.unlink()


@pytest.mark.fault("G42")
@pytest.mark.parametrize("lose", [emptied, removed])
async def test_a_start_without_the_records_is_refused_and_changes_no_file(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    data = tmp_path / "data"
    async with Service(storage={"url": f"file:{data}"}) as service:
        await store(service, b"x")
    lose(data / "catalogue.sqlite3")

    line = await asyncio.to_thread(refusal, data)

    assert f"{data} has files whose records are missing in catalogue.sqlite3" in line
    [file] = (path for path in (data / "files").rglob("*") if path.is_file())
    assert file.read_bytes() == b"x"


async def test_a_first_upload_that_was_cut_off_does_not_stop_the_start(tmp_path: Path) -> None:
    settings = make_settings(storage={"url": f"file:{tmp_path}"}).storage
    await LocalStorage(settings).close()
    file_id = "01a203f1-0be9-76ef-96de-a7f65289fcd1"
    (tmp_path / "files" / file_id[-2:]).mkdir()
    (tmp_path / "files" / file_id[-2:] / file_id).write_bytes(b"x")
    (tmp_path / "parts" / f"{file_id}.lock").touch()

    await LocalStorage(settings).close()


@pytest.mark.fault("G42")
@pytest.mark.parametrize("lose", [emptied, replaced])
async def test_a_running_service_is_not_ready_and_reports_no_file_as_missing(
    service: Service, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    storage = service.app.state.storage
    file_ids = [await store(service, b"x") for _ in range(2)]
    await service.in_server(storage.look())
    catalogue = tmp_path / "data" / "catalogue.sqlite3"
    with closing(sqlite3.connect(":memory:")) as kept, closing(sqlite3.connect(catalogue)) as live:
        live.backup(kept)
        lose(catalogue)
        await service.in_server(storage.look())
        async with service.client() as client:
            paths = ["/health/ready", f"/files/{file_ids[0]}/record"]
            assert [(await client.get(path)).status_code for path in paths] == [503, 503]
            assert (await client.delete(f"/files/{file_ids[0]}")).status_code == 503
            await service.in_server(storage.sweep())

            kept.backup(live)
            await service.in_server(storage.look())
            assert [(await client.get(path)).status_code for path in paths] == [200, 200]
    assert all(storage.path(file_id).exists() for file_id in file_ids)


@pytest.mark.fault("G42")
async def test_a_damaged_catalogue_gets_503_and_the_service_is_not_ready(
    service: Service, tmp_path: Path
) -> None:
    storage = service.app.state.storage
    file_id = await store(service, b"x")
    await service.call(lambda: storage.catalogue.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
    catalogue = tmp_path / "data" / "catalogue.sqlite3"
    catalogue.write_bytes(b"x" * catalogue.stat().st_size)
    await service.in_server(storage.look())

    async with service.client() as client:
        paths = ["/health/ready", f"/files/{file_id}/record"]
        assert [(await client.get(path)).status_code for path in paths] == [503, 503]


@pytest.mark.fault("G20")
def test_a_worker_that_starts_again_does_not_make_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "catalogue.sqlite3"
    check_format(path)
    monkeypatch.setattr(multiprocessing, "parent_process", multiprocessing.current_process)
    monkeypatch.setenv(CREATED, str(tmp_path / "catalogue.sqlite3"))

    with pytest.raises(OSError, match="is missing"):
        check_format(path)
