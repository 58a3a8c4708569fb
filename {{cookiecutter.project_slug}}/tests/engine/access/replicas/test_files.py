"""Files, quotas and links of one owner at two replicas."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.links import sign
from {{cookiecutter.package_name}}.engine.access.store import KeyStore
from {{cookiecutter.package_name}}.engine.storage import Draft
from {{cookiecutter.package_name}}.engine.storage.part import open_storage
from {{cookiecutter.package_name}}.settings import Settings

from ...objects.servers import bucket_url, endpoint_url
from ...peer import PATIENCE
from ...redis_server import RedisServer, redis, stopped_redis
from ...service import make_settings
from ..keys import bearer
from .two import Replicas, replicas

__all__ = ["bucket_url", "endpoint_url", "redis", "replicas", "stopped_redis"]  # Fixtures.

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not {"upload", "download"} <= {*Settings.model_fields}, reason="no files"),
]


async def client_of(replicas: Replicas, url: str, owner: str, name: str = "") -> httpx.AsyncClient:
    """Return a client with a new key."""
    name = name or owner
    key = await replicas.command("keys", "create", name, "member", "--owner", owner)
    return httpx.AsyncClient(base_url=url, headers=bearer(key.strip()), timeout=PATIENCE)


async def test_files_and_links_of_one_replica_belong_to_the_same_owner_at_the_other(
    replicas: Replicas,
) -> None:
    async with replicas.running() as (one, other):
        alice, bob = [await client_of(replicas, other, owner) for owner in ("alice", "bob")]
        async with alice, bob, httpx.AsyncClient() as anonymous:
            stored = await alice.post(f"{one}/files", content=b"hello")
            path = f"/files/{stored.json()['id']}"
            at_other = [(await each.get(path)).status_code for each in (alice, bob)]
            record = (await alice.get(f"{path}/record")).json()

            await replicas.command("keys", "rotate")
            new = await client_of(replicas, one, "alice", "laptop")  # `one` reads the secrets.
            async with new:
                await new.get("/files")
                link = (await new.post(f"{path}/links", json={})).json()["url"]
            followed = await anonymous.get(link.replace(one, other))

    assert (stored.status_code, at_other) == (201, [200, 404])
    assert record["owner"] == "alice"
    assert followed.content == b"hello"


async def test_a_quota_that_is_used_up_at_one_replica_is_used_up_at_the_other(
    replicas: Replicas,
) -> None:
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(replicas.running(STORAGE__QUOTA="100"))
        one, alice = urls[0], await client_of(replicas, urls[1], "alice")
        await stack.enter_async_context(alice)
        stored = await alice.post(f"{one}/files", content=b"x" * 90)
        path = f"/files/{stored.json()['id']}"
        async with asyncio.timeout(PATIENCE):  # Within a second.
            while (refused := await alice.post("/files", content=b"x" * 20)).status_code == 201:
                await alice.delete(f"/files/{refused.json()['id']}")
        assert (await alice.delete(path)).status_code == 204
        async with asyncio.timeout(PATIENCE):
            while (await alice.post(f"{one}/files", content=b"x" * 90)).status_code == 413:
                pass

    assert (stored.status_code, refused.status_code) == (201, 413)
    assert refused.json()["limit"] == 100


async def test_files_get_an_owner_while_replicas_run(
    replicas: Replicas, bucket_url: str, endpoint_url: str, redis: RedisServer
) -> None:
    storage = {"url": bucket_url, "endpoint_url": endpoint_url, "redis_url": redis.url}
    async with replicas.running() as urls:
        settings = make_settings(storage=storage).storage
        async with (
            open_storage(settings) as opened,
            opened.create(Draft(filename="a.txt")) as writer,
        ):
            file_id = (await opened.commit(writer)).id
        async with await client_of(replicas, urls[0], "alice") as alice:
            before = (await alice.get(f"/files/{file_id}/record")).status_code
            await replicas.command("keys", "adopt", "alice")
            async with asyncio.timeout(PATIENCE):
                for url in urls:
                    while (await alice.get(f"{url}/files/{file_id}/record")).status_code == 404:
                        pass

    assert before == 404


async def test_a_service_goes_on_in_a_bucket(replicas: Replicas, bucket_url: str) -> None:
    """Its keys, files and links move with `serve move`."""
    here = {"STORAGE__URL": "file:./data"}
    (replicas.folder / "a.txt").write_bytes(b"hello")
    key = (await replicas.command("keys", "create", "phone", "member", **here)).strip()
    stored = await replicas.command("import", "--owner", "phone", "a.txt", **here)
    path = f"/files/{stored.split()[0]}"
    keys = KeyStore(LocalDatabase(replicas.folder / "data/access.sqlite3"), frozenset)
    link = sign(keys.secrets, path, "phone", 60)
    keys.close()

    told = await replicas.command("move", "file:./data", bucket_url)
    async with replicas.running() as urls, httpx.AsyncClient() as client:
        found = [await client.get(f"{url}{path}", headers=bearer(key)) for url in urls]
        found += [await client.get(f"{url}{path}?signature={link}") for url in urls]

    assert told.startswith("1 files with 5 bytes copied")
    assert [each.content for each in found] == [b"hello"] * 4
