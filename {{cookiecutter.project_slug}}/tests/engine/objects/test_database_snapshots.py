"""Snapshots of a shared database, and processes that were suspended in the meantime."""

import gzip
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from {{cookiecutter.package_name}}.engine.objects import database as module
from {{cookiecutter.package_name}}.engine.objects.bucket import BucketError
from {{cookiecutter.package_name}}.engine.objects.database import SharedDatabase

from ..peer import PATIENCE
from .faults import FaultProxy
from .shared import Open, add, content, until, words

#: Seconds that the log is kept in tests of a suspended process, in the server's whole seconds.
KEPT = 2.0


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 5)


def numbers(database: SharedDatabase, part: str) -> list[int]:
    """Return the numbers of the objects in the bucket, without the one that every start writes."""
    found = database._bucket.list(database._key(f"{part}/"))
    return [number for each in found if (number := int(each.key[-16:]))]


def grow(database: SharedDatabase, count: int) -> None:
    """Make changes, and wait for the snapshot of each."""
    for _ in range(count):
        add(database, f"word-{database.position}")
        database._snapshot.result(PATIENCE)


def prune_after(database: SharedDatabase, position: int) -> None:
    """Make changes until the entry after a position was deleted."""
    end = time.monotonic() + PATIENCE
    grow(database, 1)
    while position + 1 in numbers(database, "log"):
        assert time.monotonic() < end
        grow(database, 5)


def test_a_new_process_loads_the_newest_snapshot(opened: Open, proxy: FaultProxy) -> None:
    first = opened()
    grow(first, 12)
    assert numbers(first, "snapshots") == [5, 10]

    second = opened(proxy)

    assert content(second) == content(first)
    assert second.position == 12
    assert proxy.count("GET .*/log/0") == 3  # Two entries, and none after them.
    assert add(second, "a") == 13


def test_the_log_is_kept_for_an_hour(opened: Open) -> None:
    database = opened()
    grow(database, 15)
    assert numbers(database, "snapshots") == [5, 10, 15]
    assert numbers(database, "log") == list(range(1, 16))


def test_entries_before_the_last_two_snapshots_are_deleted(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_SECONDS", -60.0)  # Also those of this second.
    database = opened()
    grow(database, 17)
    assert numbers(database, "snapshots") == [10, 15]
    assert numbers(database, "log") == list(range(10, 18))
    assert content(opened()) == content(database)


def test_a_snapshot_has_the_content_after_its_entry(opened: Open) -> None:
    database, may_start = opened(), threading.Event()
    database._snapshots.submit(may_start.wait, PATIENCE)
    for number in range(13):
        add(database, str(number))
    may_start.set()
    until(lambda: numbers(database, "snapshots") == [5])
    packed = database._bucket.get(database._key("snapshots", 5))
    assert packed is not None
    path = database.path.with_name("unpacked")
    path.write_bytes(gzip.decompress(packed))
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("SELECT count(*) FROM words").fetchone() == (5,)
    assert content(opened()) == content(database)


def test_a_snapshot_that_fails_is_logged_and_the_next_one_is_written(
    opened: Open, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    database = opened(proxy)
    proxy.add("PUT .*/snapshots/0*5 ", status=403)
    grow(database, 12)
    assert numbers(database, "snapshots") == [10]
    assert "A snapshot of words was not written" in caplog.text


def test_a_snapshot_of_a_newer_version_is_refused(opened: Open) -> None:
    database = opened(version=2)
    grow(database, 5)
    with pytest.raises(OSError, match=r"^s3://\S+ has data of a newer release \(format 2"):
        opened()


def test_a_suspended_process_does_not_write_an_old_number(
    opened: Open, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_SECONDS", KEPT)
    suspended, other = opened(proxy), opened()
    grow(other, 3)
    suspended.catch_up()
    fault = proxy.add("PUT .*/log/", hold_request=True, times=1)
    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(add, suspended, "a")
        fault.wait()
        prune_after(other, 3)
        fault.release()
        position = change.result(PATIENCE)

    assert position == other.position + 1
    assert 4 not in numbers(other, "log")
    other.catch_up()
    assert words(other)[-1] == "a"
    assert content(suspended) == content(other) == content(opened())


@pytest.mark.parametrize("has_old_number", [False, True])
def test_a_suspended_process_reads_the_snapshot(
    opened: Open, monkeypatch: pytest.MonkeyPatch, *, has_old_number: bool
) -> None:
    monkeypatch.setattr(module, "KEPT_SECONDS", KEPT)
    suspended, other = opened(), opened()
    grow(other, 3)
    suspended.catch_up()
    prune_after(other, 3)
    if has_old_number:  # A request of a process that has died meanwhile.
        bucket, entry = other._bucket, other._bucket.get(other._key("log", other.position))
        assert entry is not None
        assert bucket.put_new(other._key("log", 4), entry)

    assert suspended.catch_up()

    assert suspended.position == other.position
    assert content(suspended) == content(other)


def test_readers_are_not_disturbed_by_a_reload(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_SECONDS", KEPT)
    suspended, other = opened(), opened()
    grow(other, 3)
    suspended.catch_up()
    query = "SELECT count(*) FROM words"
    with closing(sqlite3.connect(suspended.path, isolation_level=None)) as reader:
        prune_after(other, 3)
        reader.execute("BEGIN")
        assert reader.execute(query).fetchone() == (3,)
        assert suspended.catch_up()
        assert reader.execute(query).fetchone() == (3,)
        reader.execute("COMMIT")
        assert reader.execute(query).fetchone() == (other.position,)
        add(suspended, "a")
        assert reader.execute(query).fetchone() == (other.position + 1,)
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_copy_is_deleted_at_the_end(opened: Open, bucket_url: str) -> None:
    database = opened()
    grow(database, 5)
    folder: Path = database.path.parent
    assert {each.suffix for each in folder.iterdir()} >= {".sqlite3", ".sqlite3-wal"}
    database.close()
    assert not folder.exists()


@pytest.mark.parametrize("damage", [b"", b"x", gzip.compress(b"x"), gzip.compress(b"x")[:-9]])
def test_a_damaged_snapshot_is_one_line(opened: Open, damage: bytes) -> None:
    database = opened()
    database._bucket.put(database._key("snapshots", 5), damage)
    with pytest.raises(BucketError, match=r"^s3://\S+/words/snapshots/0+5 cannot be read"):
        opened()


@pytest.mark.parametrize("damage", [b"", b"x", b"{}", b'{"version":1,"changes":[[["no",[]]]]}'])
def test_a_damaged_entry_is_one_line(opened: Open, damage: bytes) -> None:
    database = opened()
    database._bucket.put(database._key("log", 1), damage)
    line = r"^s3://\S+/words/log/0+1 cannot be read"
    for call in (database.catch_up, lambda: add(database, "a"), opened):
        with pytest.raises(BucketError, match=line):
            call()
