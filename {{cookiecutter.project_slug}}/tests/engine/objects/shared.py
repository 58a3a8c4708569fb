"""Shared databases under test, in this process and in others."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.objects.bucket import Bucket
from {{cookiecutter.package_name}}.engine.objects.database import SharedDatabase

from ..peer import PATIENCE
from .faults import FaultProxy

SCHEMA = """
CREATE TABLE IF NOT EXISTS words (
    position INTEGER PRIMARY KEY AUTOINCREMENT, word TEXT NOT NULL UNIQUE, data
);
"""
VERSION = 1
INSERT = "INSERT INTO words (word, data) VALUES (?, ?) RETURNING position"
Open = Callable[..., SharedDatabase]


def open_shared(url: str, endpoint_url: str, version: int = VERSION) -> SharedDatabase:
    """Open the database of the tests below a prefix."""
    return SharedDatabase(Bucket(url, endpoint_url), "words", SCHEMA, version)


def content(database: SharedDatabase) -> list[str]:
    """Return all rows and counters of a copy, as SQL."""
    return list(database._database.iterdump())


def words(database: SharedDatabase) -> list[str]:
    """Return the words of a copy, in their order."""
    query = "SELECT word FROM words ORDER BY position"
    return [word for (word,) in database._database.execute(query)]


def add(database: SharedDatabase, word: str, data: object = None) -> int:
    """Add a word, and return its position."""
    [[(position,)]] = database.change((INSERT, (word, data)))
    return int(position)


@pytest.fixture
def proxy(endpoint_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def opened(bucket_url: str, endpoint_url: str) -> Iterator[Open]:
    """Open databases on the same prefix, with the server or a proxy of it."""
    with ExitStack() as stack:

        def opened(through: FaultProxy | None = None, **values: Any) -> SharedDatabase:
            address = through.url if through else endpoint_url
            database = open_shared(bucket_url, address, **values)
            stack.callback(database._bucket.close)
            stack.callback(database.close)
            return database

        yield opened


def start_writer(url: str, endpoint_url: str, name: str, count: int) -> subprocess.Popen[str]:
    """Start a process that adds words, `name-0` and so on, when a line arrives at its stdin."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, url, endpoint_url, name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def proceed(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Wait for a line of each process, then let all of them continue."""
    lines = [process.stdout.readline() for process in processes if process.stdout]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return lines


def finish(process: subprocess.Popen[str]) -> list[str]:
    """Wait for a process, and return the lines that it prints."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return output.splitlines()


def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def main(url: str, endpoint_url: str, name: str, count: str) -> None:
    """Add words, and print the positions and the content of the copy at the end."""
    database = open_shared(url, endpoint_url)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    positions = [add(database, f"{name}-{number}", name.encode()) for number in range(int(count))]
    print(*positions, flush=True)  # noqa: T201
    sys.stdin.readline()
    database.catch_up()
    print(database.position, *content(database), sep="\n", flush=True)  # noqa: T201
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
