"""The catalogue: the database of a store that several processes may share."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.engine.storage.catalogue import (
    FORMAT,
    LocalCatalogue,
    check_format,
)
from {{cookiecutter.package_name}}.engine.storage.place import Place
from {{cookiecutter.package_name}}.settings import Settings

from ..peer import PATIENCE

pytestmark = pytest.mark.local


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    catalogue = LocalCatalogue(path, Place(path.parent, keep_free=0))
    with closing(catalogue._database), closing(catalogue._reader):
        yield catalogue._database


def test_workers_that_start_at_once_wait_for_the_one_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "catalogue"

    def count() -> int:
        with opened(path) as database:
            return len(database.execute("SELECT id FROM files").fetchall())

    with (
        ThreadPoolExecutor(1) as thread,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        counting = thread.submit(count)
        with pytest.raises(TimeoutError):
            counting.result(0.2)
        other.execute("ROLLBACK")
        assert counting.result(PATIENCE) == 0


def write_newer(path: Path) -> sqlite3.Connection:
    """Make a catalogue of a newer release; the log has its writes until it is closed."""
    with opened(path):
        pass
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    database.commit()
    return database


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files, except the index of the log, which every reader rebuilds."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".sqlite3-shm")
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("is_in_log", [False, True])
def test_the_data_of_a_newer_release_is_refused_in_one_line_and_not_touched(
    is_in_log: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with closing(write_newer(folder / "catalogue.sqlite3")) as database:
        if not is_in_log:
            database.close()
        before = contents(folder)
        assert ("catalogue.sqlite3-wal" in before) == is_in_log
        monkeypatch.setenv("APP_STORAGE__URL", f"file:{folder}")
        with pytest.raises(SystemExit) as stopped:
            cli.main(create_app, Settings, [])

        assert contents(folder) == before
    [line] = str(stopped.value.code).splitlines()
    assert line.startswith(f"APP_STORAGE__URL: file:{folder} cannot be used: ")
    assert f"(format {FORMAT + 1}, this one reads up to {FORMAT})" in line


def test_a_catalogue_without_a_version_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    with opened(path) as database:
        database.execute("PRAGMA user_version = 0")

    check_format(path)
    with opened(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (FORMAT,)
