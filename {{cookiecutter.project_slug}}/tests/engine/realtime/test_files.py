"""Events of files on the topic `files`."""

import hashlib
import json
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.realtime import Publisher
from {{cookiecutter.package_name}}.engine.storage import FileRecord

from ..service import Service
from .conversation import converse
from .subscriber import TEXT, Subscriber


async def test_a_file_is_told_when_it_is_stored_and_when_it_is_deleted(service: Service) -> None:
    async with service.raw_connection() as peer, service.client() as client:
        subscriber = Subscriber(peer)
        await subscriber.open("files")
        record = (await client.post("/files?filename=a.txt", content=b"x" * 1000)).json()
        stored = await subscriber.next("file.stored")
        await client.delete(f"/files/{record['id']}")
        deleted = await subscriber.next("file.deleted")

    told = json.loads(stored["data"])
    assert {name: told[name] for name in ("id", "filename", "size")} == {
        "id": record["id"],
        "filename": "a.txt",
        "size": 1000,
    }
    assert json.loads(deleted["data"])["id"] == record["id"]


async def test_the_progress_of_an_upload_is_told_at_most_ten_times_a_second(serve: Any) -> None:
    service: Service = await serve(upload={"max_size": "1 GiB"})
    mebibyte = b"x" * (1 << 20)
    async with service.raw_connection() as peer, service.raw_connection() as uploader:
        subscriber = Subscriber(peer)
        await subscriber.open("files")
        head = f"POST /files HTTP/1.1\r\nHost: test\r\nContent-Length: {40 << 20}\r\n\r\n"
        await uploader.send(head.encode() + mebibyte * 20)
        progress = json.loads((await subscriber.next("file.progress"))["data"])
        await uploader.send(mebibyte * 20)
        assert b" 201 " in await uploader.read_head()
        stored, before = await subscriber.until("file.stored")

    exchange = await service.ended("POST /files")
    assert progress["upload"] == json.loads(stored["data"])["upload"]
    assert 0 < progress["size"] < 40 << 20
    assert len(before) + 1 <= 10 * (exchange.ended_at - exchange.started_at) + 1


@pytest.mark.fault("G36")
@pytest.mark.parametrize("name", ["files", "orders", "prices.eur"])
async def test_clients_cannot_publish_on_the_topics_of_the_service(serve: Any, name: str) -> None:
    service: Service = await serve(realtime={"read_only": "orders,prices.*"})
    url, headers = f"/topics/{name}/events?event=file.stored", TEXT | {"Idempotency-Key": "k"}
    async with converse(service, name) as follower, service.client() as client:
        posted = await client.post(url, content="forged", headers=headers)
        told = await follower.ask("publish", topic=name, data="forged", event="file.stored")
        other = await follower.ask("publish", topic=f"not-{name}", data=1)
        await service.in_server(Publisher(service.app).publish(name, "true"))
        assert await follower.data(1) == ["true"]

    assert (posted.status_code, told["problem"]["status"], other["type"]) == (403, 403, "ack")


async def test_an_idempotency_key_cannot_take_the_place_of_an_event_of_the_service(
    service: Service,
) -> None:
    async with service.client() as client, converse(service, "files") as follower:
        record = (await client.post("/files", content=b"x")).json()
        await follower.next()
        # The key under which the event of this file was published.
        headers = TEXT | {"Idempotency-Key": record["id"]}
        answer = await client.post("/topics/file.stored/events", content="x", headers=headers)

    assert answer.status_code == 202


@pytest.mark.fault("G36")
async def test_followers_cannot_continue_or_delete_an_upload_that_is_under_way(
    serve: Any,
) -> None:
    service: Service = await serve(upload={"max_size": "1 GiB"})
    async with (
        service.raw_connection() as peer,
        service.raw_connection() as uploader,
        service.client() as client,
    ):
        subscriber = Subscriber(peer)
        await subscriber.open("files")
        begun = await client.post("/uploads", headers={"Upload-Complete": "?0"})
        upload_id = begun.headers["location"].rpartition("/")[2]
        size = 20 << 20
        await uploader.send(
            f"PATCH /uploads/{upload_id} HTTP/1.1\r\nHost: test\r\nUpload-Offset: 0\r\n"
            "Upload-Complete: ?1\r\nContent-Type: application/partial-upload\r\n"
            f"Content-Length: {size}\r\n\r\n".encode()
            + bytes(size // 2)
        )
        progress = await subscriber.next("file.progress")
        name = json.loads(progress["data"])["upload"]
        statuses = [
            (await client.request(method, f"/uploads/{name}")).status_code
            for method in ("HEAD", "PATCH", "DELETE")
        ]
        await uploader.send(bytes(size // 2))
        stored, before = await subscriber.until("file.stored")

    assert statuses[0] == statuses[2] == 404
    assert not any(upload_id in block["data"] for block in [progress, *before])
    told = json.loads(stored["data"])
    assert (told["id"], told["upload"]) == (upload_id, name)
    assert name == hashlib.sha256(upload_id.encode()).hexdigest()[:32]
    assert FileRecord.model_validate(told).size == size
