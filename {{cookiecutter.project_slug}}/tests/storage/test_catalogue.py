"""The catalogue: the database of a store that several processes may share."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from {{cookiecutter.package_name}}.storage.catalogue import Catalogue

from ..peer import PATIENCE


def test_workers_that_start_at_once_wait_for_the_one_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "catalogue"

    def count() -> int:
        with closing(Catalogue(path)._database) as database:
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
