"""Keys, revocations, tickets and the secrets of links in a bucket, which replicas share."""

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.access import Access, bucket, store
from {{cookiecutter.package_name}}.engine.access.bucket import BucketDatabase
from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.keys import digest_of
from {{cookiecutter.package_name}}.engine.access.links import principal_of_link, sign
from {{cookiecutter.package_name}}.engine.access.store import KeyStore, Ticket

from ...objects.faults import FaultProxy
from ...objects.servers import bucket_url, endpoint_url
from ...peer import PATIENCE
from ...redis_server import redis, stopped_redis
from ...service import make_settings
from .two import Replicas, replicas, status

__all__ = ["bucket_url", "endpoint_url", "redis", "replicas", "stopped_redis"]  # Fixtures.

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

    assert (found.name, found.grants) == ("laptop", ("files:read", "reader"))
    assert (found.principal.id, found.flaw()) == ("alice", "")
    assert found.expires_at == found.created_at + 60
    assert one.keys[digest].flaw() == "revoked"
    assert not one.revoke("unknown")


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
        assert redeemed(two, secret) == [None] * (RACERS - 1) + [ticket]


def redeemed(two: tuple[KeyStore, KeyStore], secret: str) -> list[Any]:
    """Use a ticket in many threads of both; return the results."""
    return sorted(all_at_once(RACERS, lambda number: two[number % 2].redeem(secret)), key=bool)


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


@pytest.mark.slow
async def test_replicas_share_the_first_key_revocations_and_tickets(replicas: Replicas) -> None:
    async with replicas.running(ACCESS__MAX_FAILURES="1000") as urls:
        [first] = re.findall(r"^sk_\S+$", "".join(map(log_of, replicas.processes)), re.MULTILINE)
        assert [await status(url, first) for url in urls] == [200, 200]

        key = (await replicas.command("keys", "create", "phone", "monitor")).strip()
        assert [await status(url, key) for url in urls] == [200, 200]
        assert await race(urls, key) == {200: 1, 401: RACERS - 1}

        await replicas.command("keys", "revoke", "phone")
        async with asyncio.timeout(PATIENCE):
            while {await status(url, key) for url in urls} != {401}:
                pass
    assert not replicas.has_own_database()


def log_of(process: Any) -> str:
    return "".join(process.log)


async def race(urls: tuple[str, str], key: str) -> Counter[int]:
    """Send a ticket of the first replica to both, in many requests; return their statuses."""
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        wanted = {"path": "/metrics", "method": "GET"}
        headers = {"X-API-Key": key}
        issued = await client.post(f"{urls[0]}/tickets", json=wanted, headers=headers)
        query = {"ticket": issued.json()["ticket"]}
        requests = (
            client.get(f"{urls[number % 2]}/metrics", params=query) for number in range(RACERS)
        )
        return Counter(response.status_code for response in await asyncio.gather(*requests))


async def test_a_revoked_key_is_refused_within_a_second(
    serve: Callable[..., Any], bucket_url: str, endpoint_url: str, open_keys: Open
) -> None:
    service = await serve(storage={"url": bucket_url, "endpoint_url": endpoint_url})
    keys = open_keys()
    elapsed: list[float] = []
    for _ in range(5):
        key = keys.create("alice", ["monitor"], name := f"key-{len(elapsed)}")
        assert await status(service.url, key) == 200
        keys.revoke(name)
        begun = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while await status(service.url, key) == 200:
                pass
        elapsed.append(time.monotonic() - begun)

    assert sorted(elapsed)[2] < 1


async def test_known_keys_are_accepted_while_the_bucket_is_unusable(
    serve: Callable[..., Any],
    bucket_url: str,
    endpoint_url: str,
    open_keys: Open,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = open_keys()
    known = keys.create("alice", ["monitor"])
    with FaultProxy(endpoint_url) as proxy:
        service = await serve(storage={"url": bucket_url, "endpoint_url": proxy.url})
        new = keys.create("bob", ["monitor"])
        fault = proxy.add(r"GET .*/access/", status=403)
        await asyncio.to_thread(fault.wait, 3)
        async with httpx.AsyncClient(base_url=service.url) as client:
            wrong = [{"X-API-Key": new}, {"X-API-Key": "sk_unknown"}]
            refused = [await client.get("/metrics", headers=each) for each in wrong]
            refused.append(await client.get("/metrics?ticket=tk_unknown"))
            during = await status(service.url, known)
        proxy.clear()
        async with asyncio.timeout(PATIENCE):
            while await status(service.url, "sk_unknown") == 503:
                pass
        after = [await status(service.url, each) for each in (known, new)]

    assert [(each.status_code, each.headers["Retry-After"]) for each in refused] == [(503, "1")] * 3
    assert during == 200
    assert after == [200, 200]
    lines = [each.getMessage() for each in caplog.records if "keys cannot be used" in each.message]
    assert len(lines) == 1
    assert "access is denied" in lines[0]
