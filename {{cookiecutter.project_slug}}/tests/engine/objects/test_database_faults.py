"""A shared database whose bucket fails: each change is applied once, or reported as unknown."""

from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.objects import bucket as module
from {{cookiecutter.package_name}}.engine.objects.bucket import BucketError

from .faults import FaultProxy
from .shared import Open, add, content, finish, proceed, start_writer, words


@pytest.fixture(params=[1, 2], ids=["one try", "two tries"], autouse=True)
def tries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Tries of the client of S3, which hide some faults from the database."""
    monkeypatch.setattr(module, "TRIES", request.param)
    return int(request.param)


@pytest.mark.parametrize(
    "fault",
    [
        {"lose": True},
        {"status": 503},
        {"status": 500},
        {"status": 409},
        {"cut_request": 1},
        {"cut_request": 30},
        {"cut_response": 0},
    ],
    ids=str,
)
def test_one_lost_request_or_response_changes_nothing(
    opened: Open, proxy: FaultProxy, fault: dict[str, Any]
) -> None:
    first, second = opened(proxy), opened()
    seen = proxy.add("PUT .*/log/", times=1, **fault)

    assert add(first, "a") == 1
    assert add(second, "b") == 2
    assert add(first, "c") == 3

    second.catch_up()
    assert seen.count == 1
    assert first.position == second.position == 3
    assert content(first) == content(second) == content(opened())


@pytest.mark.parametrize("fault", [{"lose": True}, {"status": 503}], ids=str)
def test_a_lost_response_and_another_process_that_is_faster(
    opened: Open, proxy: FaultProxy, fault: dict[str, Any], tries: int
) -> None:
    first, second = opened(proxy), opened()
    held = proxy.add("PUT .*/log/", times=tries, hold_request=True, **fault)
    add(second, "b")
    held.release()

    assert add(first, "a") == 2
    assert words(first) == ["b", "a"]
    assert content(first) == content(opened())


def test_an_unknown_outcome_is_reported_and_found_later(opened: Open, proxy: FaultProxy) -> None:
    first, second = opened(proxy), opened()
    proxy.add("PUT .*/log/", lose=True)
    proxy.add("GET .*/log/", status=503)
    with pytest.raises(BucketError) as raised:
        add(first, "a")
    assert raised.value.is_temporary
    assert words(first) == []

    proxy.clear()
    assert add(first, "b") == 2
    second.catch_up()
    assert words(first) == words(second) == ["a", "b"]


def test_a_bucket_that_is_away_for_a_time(opened: Open, proxy: FaultProxy) -> None:
    database = opened(proxy)
    add(database, "a")
    proxy.refuse()
    with pytest.raises(BucketError, match="Could not connect"):
        add(database, "b")
    with pytest.raises(BucketError, match="Could not connect"):
        database.catch_up()
    with pytest.raises(OSError, match="Could not connect"):
        opened(proxy)
    assert words(database) == ["a"]

    proxy.accept()
    assert add(database, "c") == 2
    assert words(database) == words(opened(proxy)) == ["a", "c"]


def test_denied_access_is_reported_at_once(opened: Open, proxy: FaultProxy) -> None:
    database = opened(proxy)
    fault = proxy.add("PUT .*/log/", status=403)
    with pytest.raises(BucketError, match="access is denied") as raised:
        add(database, "a")
    assert not raised.value.is_temporary
    assert fault.count == 1
    with pytest.raises(OSError, match=r"^s3://\S+: access is denied"):
        opened(proxy)


@pytest.mark.parametrize("is_written", [True, False])
def test_a_process_dies_while_it_writes(
    opened: Open, proxy: FaultProxy, bucket_url: str, *, is_written: bool
) -> None:
    other = opened()
    add(other, "a")
    writer = start_writer(bucket_url, proxy.url, "w", 1)
    assert proceed([]) == []
    held = proxy.add(
        "PUT .*/log/0*2 ", hold_response=is_written, hold_request=not is_written, times=1
    )
    assert proceed([writer]) == ["ready\n"]
    held.wait()
    writer.kill()
    writer.communicate()
    proxy.cut()

    again = start_writer(bucket_url, proxy.url, "v", 1)
    position = 3 if is_written else 2
    assert proceed([again]) == ["ready\n"]
    assert proceed([again]) == [f"{position}\n"]
    finish(again)
    other.catch_up()
    assert words(other) == ["a", *["w-0"] * is_written, "v-0"]
    assert content(other) == content(opened())
