"""Events of files: everybody receives those of their own files, and `admin` all."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from ...service import Service
from ..conversation import Conversation, converse
from ..subscriber import Subscriber
from .senders import GOOD, bearer, command, following, key_of, line

FILES = ("files:read", "files:write", "files:delete")


@asynccontextmanager
async def client_of(service: Service, owner: str) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as client:
        client.headers.update(bearer(key_of(service, owner, *FILES)))
        yield client


async def store(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    response = await client.post(f"/files?filename={name}", content=b"x")
    assert response.status_code == 201, response.text
    record: dict[str, Any] = response.json()
    return record


def files(events: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the topic, type and file name of each event, without those about progress."""
    return [
        (each["topic"], each["event"], each["data"]["filename"])
        for each in events
        if each["event"] != "file.progress"
    ]


async def events(conversation: Conversation, count: int) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    while len(found) < count:
        found += files([await conversation.next()])
    return found


@pytest.mark.parametrize("names", ["files.bob", "files.*", "files.bob.*", "files.alice.*"])
@pytest.mark.parametrize("grant", ["topics:subscribe:*", "topics:subscribe:files.*", "files:read"])
async def test_no_scope_opens_the_files_of_others(service: Service, names: str, grant: str) -> None:
    key = key_of(service, "alice", grant, "topics:subscribe:news")

    assert await following(service, names, key) == {403}
    assert await following(service, f"news,{names}", key) == {403}
    assert await following(service, names, None) == {401}


@pytest.mark.parametrize("names", ["files", "files.alice", "files,files.alice"])
async def test_everybody_may_follow_their_own_files(service: Service, names: str) -> None:
    assert await following(service, names, key_of(service, "alice")) == GOOD
    assert await following(service, names, None) == {401}


@pytest.mark.parametrize("names", ["files.bob", "files.*", "files"])
async def test_an_admin_may_follow_all(service: Service, names: str) -> None:
    assert await following(service, names, key_of(service, "root", "admin")) == GOOD


@pytest.mark.parametrize("topic", ["files", "files.alice", "files.alice.x"])
async def test_only_the_service_publishes_them(service: Service, topic: str) -> None:
    key = key_of(service, "alice", "admin", "topics:publish:*")
    async with service.client() as client:
        response = await client.post(f"/topics/{topic}/events", json=1, headers=bearer(key))

    assert response.status_code == 403
    assert await command(service, key, "publish", topic=topic, data=1) == 403


async def test_each_owner_receives_the_events_of_their_own_files(service: Service) -> None:
    async with AsyncExitStack() as stack:

        async def follow(owner: str, *grants: str, names: str = "files") -> Conversation:
            headers = bearer(key_of(service, owner, *grants))
            return await stack.enter_async_context(
                converse(service, names, additional_headers=headers)
            )

        alice, bob = await follow("alice"), await follow("bob")
        root = await follow("root", "admin")
        named = await follow("root", "admin", names="files.bob,files.alice")
        by_alice = await stack.enter_async_context(client_of(service, "alice"))
        by_bob = await stack.enter_async_context(client_of(service, "bob"))
        record = await store(by_alice, "a")
        await store(by_bob, "b")
        assert (await by_alice.delete(f"/files/{record['id']}")).status_code == 204
        await store(by_bob, "c")

        stored, deleted = "file.stored", "file.deleted"
        of_alice = [("files", stored, "a"), ("files", deleted, "a")]
        of_bob = [("files", stored, "b"), ("files", stored, "c")]
        of_all = [of_alice[0], of_bob[0], of_alice[1], of_bob[1]]
        assert await events(alice, 2) == of_alice
        assert await events(bob, 2) == of_bob
        assert await events(root, 4) == of_all
        assert [each[0] for each in await events(named, 4)] == [
            f"files.{owner}" for owner in ("alice", "bob", "alice", "bob")
        ]


@pytest.mark.parametrize("names", ["files", "files.alice"])
async def test_an_event_stream_names_the_topic_that_was_asked_for(
    service: Service, names: str
) -> None:
    key = key_of(service, "alice", "topics:subscribe:news")
    async with (
        service.raw_connection() as one,
        service.raw_connection() as several,
        client_of(service, "alice") as client,
    ):
        single, multiple = Subscriber(one), Subscriber(several)
        await single.open(names, line(key))
        await multiple.open(f"{names},news", line(key))
        record = await store(client, "a")
        told = [await each.next("file.stored") for each in (single, multiple)]

    assert json.loads(told[0]["data"])["id"] == record["id"]
    document = json.loads(told[1]["data"])
    assert (document["topic"], document["data"]["id"]) == (names, record["id"])


async def test_a_client_that_comes_back_gets_only_its_own_missed_events(service: Service) -> None:
    key = key_of(service, "alice")
    async with (
        client_of(service, "alice") as client,
        client_of(service, "bob") as other,
        service.client() as reader,
    ):
        url, headers = "/topics/files/events?poll=0", bearer(key)
        known = (await reader.get(url, headers=headers)).json()["last_event_id"]
        await store(other, "b")
        await store(client, "a")
        await store(other, "c")
        resumed = await reader.get(f"{url}&last_event_id={known}", headers=headers)
        unknown = await reader.get(f"{url}&last_event_id=0-0", headers=headers)

    assert files(resumed.json()["events"]) == [("files", "file.stored", "a")]
    [reset] = unknown.json()["events"]
    assert (reset["event"], reset["topic"]) == ("reset", "files")


async def test_the_progress_of_an_upload_is_told_to_its_owner(service: Service) -> None:
    size = 8 << 20
    keys = {owner: key_of(service, owner, *FILES) for owner in ("alice", "bob")}
    async with (
        service.raw_connection() as uploader,
        converse(service, "files", additional_headers=bearer(keys["alice"])) as own,
        converse(service, "files", additional_headers=bearer(keys["bob"])) as of_bob,
        client_of(service, "bob") as client,
    ):
        head = f"POST /files HTTP/1.1\r\nHost: test\r\n{line(keys['alice'])}\r\n"
        await uploader.send(f"{head}Content-Length: {size}\r\n\r\n".encode() + bytes(size // 2))
        progress = await own.next()
        await uploader.send(bytes(size // 2))
        assert b" 201 " in await uploader.read_head()
        await store(client, "b")
        of_others = []
        while (told := await of_bob.next())["event"] != "file.stored":
            of_others.append(told["data"]["upload"])

    assert (progress["topic"], progress["event"]) == ("files", "file.progress")
    assert told["data"]["filename"] == "b"
    assert progress["data"]["upload"] not in of_others
