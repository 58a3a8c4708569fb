"""Keys, revocations, tickets and the secrets of links in a bucket, which replicas share."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.access import Access, bucket, store
from {{cookiecutter.package_name}}.engine.access.bucket import BucketDatabase
from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.keys import digest_of
from {{cookiecutter.package_name}}.engine.access.links import principal_of_link, sign
from {{cookiecutter.package_name}}.engine.access.store import KeyStore, Ticket

from ..objects.faults import FaultProxy
from ..objects.servers import bucket_url, endpoint_url
from ..peer import PATIENCE
from ..service import make_settings

__all__ = ["bucket_url", "endpoint_url"]  # Fixtures.

RACERS = 20
Open = Callable[[], KeyStore]


@pytest.fixture
def open_keys(bucket_url: str, endpoint_url: str) -> Iterator[Open]:
    """Open the keys as a further process does, from the beginning."""
    with ExitStack() as stack:

        def open_keys() -> KeyStore:
            database = BucketDatabase(bucket_url, endpoint_url)
            return stack.enter_context(closing(KeyStore(database, frozenset)))

        yield open_keys


@pytest.fixture
def two(open_keys: Open) -> tuple[KeyStore, KeyStore]:
    return open_keys(), open_keys()


def all_at_once(count: int, function: Callable[[int], Any]) -> list[Any]:
    """Call a function with each number below `count`, in threads; return the results."""
    results: list[Any] = [None] * count
    together = threading.Barrier(count)

    def run(number: int) -> None:
        together.wait(PATIENCE)
        try:
            results[number] = function(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    return results


def test_a_key_and_its_revocation_are_known_to_all(two: tuple[KeyStore, KeyStore]) -> None:
    one, other = two
    digest = digest_of(one.create("alice", ["files:read", "reader"], "laptop", 60))
    other.refresh()
    found = other.keys[digest]
    assert other.revoke("laptop")
    one.refresh()

    assert found == one.keys[digest].__class__(
        digest, "laptop", found.principal, ("files:read", "reader"), *found_times(found)
    )
    assert (found.principal.id, found.flaw()) == ("alice", "")
    assert one.keys[digest].flaw() == "revoked"
    assert not one.revoke("unknown")


def found_times(key: Any) -> tuple[float, float | None]:
    return key.created_at, key.expires_at


def test_a_name_is_used_once_by_all(open_keys: Open) -> None:
    stores = [open_keys() for _ in range(3)]

    results = all_at_once(3, lambda number: stores[number].create("admin", ["admin"], "first"))

    for each in stores:
        each.refresh()
    valid = [each for each in results if isinstance(each, str)]
    assert len(valid) == 1
    assert [type(each) for each in results if each not in valid] == [ValueError] * 2
    assert all([*each.keys] == [digest_of(valid[0])] for each in stores)


def test_a_ticket_is_used_up_once_by_all(two: tuple[KeyStore, KeyStore]) -> None:
    ticket = Ticket(b"key", "GET", "/metrics")
    for issuer in two:
        secret = issuer.issue(ticket, 30)
        for each in two:
            each.refresh()
        results = all_at_once(RACERS, lambda number: two[number % 2].redeem(secret))

        assert sorted(results, key=bool) == [None] * (RACERS - 1) + [ticket]


def test_a_ticket_expires_everywhere(
    two: tuple[KeyStore, KeyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    secret = one.issue(Ticket(b"key", "GET", "/metrics"), 30)
    later = time.time() + 31
    monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: later))
    other.refresh()

    assert other.redeem(secret) is None


def test_replicas_that_start_at_once_share_their_secrets(
    bucket_url: str, endpoint_url: str, tmp_path: Path
) -> None:
    """Each of them finds the bucket empty, and creates a secret."""
    settings = make_settings(
        storage={"url": bucket_url, "endpoint_url": endpoint_url},
        access={"database": tmp_path / "unused.sqlite3"},
    )
    stores = all_at_once(3, lambda _: Access({})._open(settings))
    with ExitStack() as stack:
        for each in stores:
            stack.enter_context(closing(each))
            each.refresh()
        links = [sign(each.secrets, "/a", "alice", 60) for each in stores]

        assert {len(each.secrets) for each in stores} <= {1, 2, 3}
        assert len({tuple(each.secrets.items()) for each in stores}) == 1
        for each in stores:
            assert all(principal_of_link(each.secrets, link, "/a") for link in links)
    assert not (tmp_path / "unused.sqlite3").exists()


def test_a_rotation_applies_to_all(two: tuple[KeyStore, KeyStore]) -> None:
    one, other = two
    one.rotate(60)
    other.refresh()
    old = sign(other.secrets, "/a", "alice", 60)
    other.rotate(60)
    kept = principal_of_link(other.secrets, old, "/a")
    one.rotate(0)
    other.refresh()

    assert kept is not None
    assert principal_of_link(other.secrets, old, "/a") is None
    assert principal_of_link(other.secrets, sign(one.secrets, "/a", "alice", 60), "/a")


def test_a_look_without_news_is_one_request(bucket_url: str, endpoint_url: str) -> None:
    with FaultProxy(endpoint_url) as proxy:
        database = BucketDatabase(bucket_url, proxy.url)
        with closing(KeyStore(database, frozenset)) as keys:
            keys.create("alice", ["admin"])
            before = len(proxy.requests)
            for _ in range(10):
                keys.refresh()
            [*ten] = proxy.requests[before:]

    assert len(ten) == 10
    assert all(each.startswith("GET ") for each in ten)


def test_keys_move_into_a_bucket_and_back(
    bucket_url: str, endpoint_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def settings_of(name: str, url: str) -> Any:
        storage = {"url": url, "endpoint_url": endpoint_url}
        return make_settings(storage=storage, access={"database": tmp_path / name})

    here = settings_of("here", f"file:{tmp_path / 'data'}")
    there = settings_of("unused", bucket_url)
    back = settings_of("back", f"file:{tmp_path / 'back'}")
    with closing(KeyStore(LocalDatabase(tmp_path / "here"), frozenset)) as keys:
        keys.rotate(60)
        keys.create("alice", ["admin"], "one", 60)
        keys.create("bob", ["files:read"], "two")
        keys.revoke("two")

    assert bucket.move(here, there) == 0
    assert bucket.move(here, there) == 0  # Again.
    assert bucket.move(there, back) == 0
    with closing(KeyStore(LocalDatabase(tmp_path / "back"), frozenset)) as moved:
        assert (moved.keys, moved.secrets) == (keys.keys, keys.secrets)

    with closing(KeyStore(BucketDatabase(bucket_url, endpoint_url), frozenset)) as shared:
        shared.revoke("one")
    assert bucket.move(here, there) == 0
    with closing(KeyStore(LocalDatabase(tmp_path / "other"), frozenset)) as other:
        other.create("carol", ["admin"], "two")
    assert bucket.move(settings_of("other", f"file:{tmp_path / 'data'}"), there) == 1
    assert capsys.readouterr().err == "key two: there is another one with this name\n"
    with closing(KeyStore(BucketDatabase(bucket_url, endpoint_url), frozenset)) as shared:
        assert [key.flaw() for key in shared.keys.values()] == ["revoked", "revoked"]
        assert [key.principal.id for key in shared.keys.values()] == ["alice", "bob"]
    assert bucket.move(settings_of("missing", f"file:{tmp_path / 'data'}"), there) == 0
    assert not (tmp_path / "missing").exists()
