"""A database that several processes share: one order of changes, in all copies."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from {{cookiecutter.package_name}}.engine.objects.bucket import Bucket, BucketError

from ..peer import PATIENCE
from ..service import SOAK
from .faults import FaultProxy
from .shared import INSERT, Open, add, content, finish, proceed, start_writer, until, words


def test_a_change_is_in_all_copies(opened: Open) -> None:
    first, second = opened(), opened()

    assert add(first, "a") == 1
    assert not first.catch_up()
    assert second.catch_up()
    assert not second.catch_up()
    assert add(second, "b") == 2
    assert first.catch_up()

    assert first.position == second.position == 2
    assert content(first) == content(second) == content(opened())


def test_values_have_their_types_in_all_copies(opened: Open) -> None:
    values = ["ä\0'\"", b"\0\xff", bytearray(b"1"), 0.1, float("inf"), -(2**63), None, True]
    first, second = opened(), opened()
    for number, value in enumerate(values):
        add(first, str(number), value)
    second.catch_up()

    found = second._database.execute("SELECT data FROM words ORDER BY position").fetchall()
    assert [value for (value,) in found] == values
    assert content(first) == content(second)
    with pytest.raises(TypeError, match="set is not a value of SQLite"):
        add(first, "x", {1})


def test_a_failed_statement_undoes_its_transaction_alone(opened: Open) -> None:
    first, second = opened(), opened()
    add(first, "a")
    with pytest.raises(sqlite3.IntegrityError):
        second.change((INSERT, ("b", None)), (INSERT, ("a", None)))
    with pytest.raises(sqlite3.OperationalError):
        second.change((INSERT, ("b", None)), ("nonsense", ()))
    with pytest.raises(sqlite3.ProgrammingError):
        second.change((INSERT, ("b",)))
    with pytest.raises(OverflowError):
        second.change((INSERT, ("b", 2**63)))

    assert add(second, "c") == 2
    first.catch_up()
    assert words(first) == words(second) == ["a", "c"]
    assert content(first) == content(second)


def test_an_old_copy_causes_no_error(opened: Open) -> None:
    first, second = opened(), opened()
    add(first, "a")
    second.catch_up()
    first.change(("DELETE FROM words", ()))

    assert add(second, "a") == 2  # It has the word still.

    assert second.change(("DELETE FROM words WHERE word = 'a' RETURNING word", ())) == [[("a",)]]


def test_changes_that_wait_are_one_entry(opened: Open, proxy: FaultProxy) -> None:
    database = opened(proxy)
    add(database, "a")
    fault = proxy.add("PUT .*/log/", hold_request=True, times=1)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(add, database, "b")
        fault.wait()
        others = [pool.submit(add, database, word) for word in "cdefghbij"]
        failing = pool.submit(database.change, (INSERT, ("x", None)), (INSERT, ("a", None)))
        until(lambda: len(database._waiting) == len(others) + 1)
        fault.release()
        assert first.result(PATIENCE) == 2
        results = [each.exception(PATIENCE) or each.result() for each in others]

    assert [isinstance(each, sqlite3.IntegrityError) for each in results] == [
        each == 6 for each in range(9)
    ]
    assert isinstance(failing.exception(PATIENCE), sqlite3.IntegrityError)
    assert database.position == 3
    assert sorted(words(database)) == list("abcdefghij")
    assert content(opened()) == content(database)


def test_calls_that_wait_share_a_request(opened: Open, proxy: FaultProxy) -> None:
    database = opened(proxy)
    fault = proxy.add("GET .*/log/", hold_request=True, times=1)
    proxy.requests.clear()
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(database.catch_up)
        fault.wait()
        others = [pool.submit(database.catch_up) for _ in range(19)]
        until(lambda: database._worker._work_queue.qsize() == 19)
        add(opened(), "a")
        fault.release()
        for each in (first, *others):
            each.result(PATIENCE)
    assert words(database) == ["a"]
    assert proxy.count("GET") <= 5


def test_a_failed_request_is_not_shared(opened: Open, proxy: FaultProxy) -> None:
    database = opened(proxy)
    fault = proxy.add("GET .*/log/", status=403, hold_request=True, times=1)
    add(opened(), "a")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(database.catch_up)
        fault.wait()
        second = pool.submit(database.catch_up)
        until(lambda: database._worker._work_queue.qsize() == 1)
        fault.release()
        assert isinstance(first.exception(PATIENCE), BucketError)
        second.result(PATIENCE)
    assert words(database) == ["a"]


@pytest.mark.parametrize("count", [2, 5])
def test_processes_write_at_the_same_time(
    opened: Open, bucket_url: str, endpoint_url: str, count: int
) -> None:
    each = 15 * SOAK
    names = "abcde"[:count]
    writers = [start_writer(bucket_url, endpoint_url, name, each) for name in names]
    assert proceed(writers) == ["ready\n"] * count
    positions = [int(position) for line in proceed(writers) for position in line.split()]
    states = [finish(writer) for writer in writers]

    mine = opened()
    assert sorted(positions) == list(range(1, count * each + 1))
    assert sorted(words(mine)) == sorted(f"{a}-{b}" for a in names for b in range(each))
    for state in states:
        assert state == "\n".join([str(mine.position), *content(mine)]).splitlines()


def test_a_server_that_ignores_conditions_is_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_new(self: Bucket, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True

    monkeypatch.setattr(Bucket, "put_new", put_new)
    with pytest.raises(OSError, match=r"^s3://\S+: the server ignores If-None-Match"):
        opened()


def test_a_newer_version_is_refused(opened: Open) -> None:
    old, new = opened(), opened(version=2)
    add(old, "a")
    add(new, "b")
    old_content = content(old)
    message = r"^s3://\S+ has data of a newer release \(format 2, this one reads up to 1\); run"
    with pytest.raises(BucketError, match=message):
        old.catch_up()
    with pytest.raises(BucketError, match=message):
        add(old, "c")
    with pytest.raises(OSError, match=message):
        opened()
    assert content(old) == old_content
    assert words(opened(version=2)) == ["a", "b"]
