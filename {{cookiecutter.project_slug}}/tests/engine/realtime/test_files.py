"""Events of files on the topic `files`."""

import json
from typing import Any

from ..service import Service
from .subscriber import Subscriber


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
    assert progress["id"] == json.loads(stored["data"])["id"]
    assert 0 < progress["size"] < 40 << 20
    assert len(before) + 1 <= 10 * (exchange.ended_at - exchange.started_at) + 1
