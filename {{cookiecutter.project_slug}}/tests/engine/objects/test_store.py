"""Files in S3, by HTTP, while requests to S3 fail and after processes have died."""

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.storage.s3.store import S3Storage
from {{cookiecutter.package_name}}.engine.storage.s3.writer import MIN_PART

from ..peer import PATIENCE
from ..service import Service, ServiceProcess
from .faults import FaultProxy
from .servers import BUCKET, client

pytestmark = pytest.mark.anyio
LARGE = random.randbytes(2 * MIN_PART + 1000)
#: The path of the bytes of a file.
FILE = "/files/[0-9a-f-]{36}"
SWEPT = {"STORAGE__SWEEP_INTERVAL": "0.1 s"}


@pytest.fixture
def sections(
    sections: dict[str, dict[str, Any]], bucket_url: str, proxy: FaultProxy
) -> dict[str, dict[str, Any]]:
    """The files are in S3, behind a proxy."""
    storage = {"url": bucket_url, "endpoint_url": proxy.url, "sweep_interval": 0.1}
    # Requests of the tests wait while S3 does not respond.
    return sections | {"storage": storage, "streaming": {"idle_timeout": PATIENCE}}


class Left:
    """The objects in the bucket."""

    def __init__(self, url: str, endpoint_url: str) -> None:
        self._prefix = url.removeprefix(f"s3://{BUCKET}/")
        self._endpoint_url = endpoint_url

    def keys(self, *folders: str) -> list[str]:
        """Return the keys of the objects and multipart uploads in these folders."""
        s3, found = client(self._endpoint_url), []
        for folder in folders:
            query = {"Bucket": BUCKET, "Prefix": f"{self._prefix}/{folder}/"}
            found += [each["Key"] for each in s3.list_objects_v2(**query).get("Contents", [])]
            found += [each["Key"] for each in s3.list_multipart_uploads(**query).get("Uploads", [])]
        s3.close()
        return found

    async def nothing(self) -> None:
        """Wait until there are no bytes of files."""
        async with asyncio.timeout(PATIENCE):
            while self.keys("files"):
                await asyncio.sleep(0.05)


@pytest.fixture
def left(bucket_url: str, endpoint_url: str) -> Left:
    return Left(bucket_url, endpoint_url)


async def upload(client: httpx.AsyncClient, data: bytes = LARGE, **options: Any) -> httpx.Response:
    return await client.post("/files", content=data, **options)


async def ready(client: httpx.AsyncClient, status: int = 200) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await client.get("/health/ready")).status_code != status:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("data", [b"small", LARGE])
async def test_a_file_is_an_object_that_describes_itself(
    service: Service, left: Left, endpoint_url: str, data: bytes
) -> None:
    headers = {
        "Content-Type": "image/png",
        "Content-Disposition": "attachment; filename*=UTF-8''%C3%A4",
    }
    async with service.client() as peer:
        stored = (await upload(peer, data, headers=headers)).json()
        assert (await peer.get(stored["url"])).content == data

    [key] = left.keys("files")
    s3 = client(endpoint_url)
    found = s3.get_object(Bucket=BUCKET, Key=key)
    assert key.endswith(f"/files/{stored['id']}")
    assert found["ContentType"] == "image/png"
    assert found["Metadata"] == {"name": "%C3%A4"}
    assert found["Body"].read() == data
    s3.close()


async def test_a_deleted_file_leaves_no_bytes(service: Service, left: Left) -> None:
    async with service.client() as client:
        url = (await upload(client)).json()["url"]
        assert (await client.delete(url)).status_code == 204
        assert (await client.get(url)).status_code == 404

    assert left.keys("files") == []


async def test_bytes_that_could_not_be_deleted_are_swept(
    service: Service, left: Left, proxy: FaultProxy
) -> None:
    async with service.client() as client:
        url = (await upload(client, b"a")).json()["url"]
        proxy.add("^DELETE ", status=403, times=1)
        assert (await client.delete(url)).status_code == 204
        assert (await client.get(url)).status_code == 404
        await left.nothing()


async def test_an_upload_that_ends_early_leaves_nothing(service: Service, left: Left) -> None:
    async with service.raw_connection() as peer:
        await peer.send(b"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        await peer.send(LARGE)
        async with asyncio.timeout(PATIENCE):
            while not left.keys("files"):
                await asyncio.sleep(0.01)
        peer.reset()
    assert await service.outcome_of("POST /files") == "client_abort"
    await left.nothing()


@pytest.mark.parametrize("data", [b"small", LARGE])
async def test_without_s3_requests_get_503_and_the_service_is_not_ready(
    service: Service, proxy: FaultProxy, left: Left, data: bytes
) -> None:
    async with service.client() as client:
        stored = (await upload(client, b"a")).json()
        proxy.refuse()
        failed = await upload(client, data)
        read = await client.get(stored["url"])
        assert (await client.get("/health/ready")).status_code == 503
        proxy.accept()
        await ready(client)

        assert [failed.status_code, read.status_code] == [503, 503]
        assert failed.json()["type"].endswith("storage-unavailable")
        assert failed.headers["retry-after"] == read.headers["retry-after"] == "10"
        assert (await client.get(stored["url"])).content == b"a"
        assert (await upload(client, data)).status_code == 201
    async with asyncio.timeout(PATIENCE):
        while len(left.keys("files")) != 2:
            await asyncio.sleep(0.05)


async def test_a_client_gets_a_file_whose_connection_to_s3_is_lost(
    service: Service, proxy: FaultProxy
) -> None:
    async with service.client() as client:
        url = (await upload(client)).json()["url"]
        fault = proxy.add(f"^GET .*{FILE}", times=3, cut_response=1_000_000)

        assert (await client.get(url)).content == LARGE
    assert fault.count == 3


async def test_an_object_that_is_gone_is_not_found(
    service: Service, endpoint_url: str, left: Left
) -> None:
    async with service.client() as peer:
        url = (await upload(peer)).json()["url"]
        s3 = client(endpoint_url)
        s3.delete_object(Bucket=BUCKET, Key=left.keys("files")[0])
        s3.close()

        assert (await peer.get(url)).status_code == 404
        ranges = await peer.get(url, headers={"Range": "bytes=0-99999,200000-399999"})
        assert ranges.status_code == 404


async def test_a_record_whose_response_was_lost_is_added_once(
    service: Service, proxy: FaultProxy
) -> None:
    async with service.client() as client:
        fault = proxy.add("^PUT .*/catalogue/log/", times=1, lose=True)
        assert (await upload(client, b"a")).status_code == 201
        lines = (await client.get("/files")).text.splitlines()

    assert fault.count == 1
    assert json.loads(lines[-1]) == {"$end": {"count": 1}}


async def test_bytes_stay_as_long_as_their_record_may_arrive(
    service: Service, proxy: FaultProxy, left: Left
) -> None:
    """A client without a response may find the file, but never a record without bytes."""
    async with service.client() as client:
        fault = proxy.add("^(PUT|GET) .*/catalogue/log/", status=503)
        failed = await upload(client, b"a")
        assert failed.status_code == 503
        assert fault.count
        proxy.clear()
        await ready(client)
        await left.nothing()
        assert (await client.get("/files")).text.splitlines() == ['{"$end":{"count":0}}']


@pytest.mark.parametrize("when", ["parts", "log"])
async def test_a_killed_process_leaves_nothing_after_the_sweep(
    tmp_path: Path, bucket_url: str, proxy: FaultProxy, left: Left, when: str
) -> None:
    """It dies while parts are sent, and between the completion and the record."""
    place = {"STORAGE__URL": bucket_url, "STORAGE__ENDPOINT_URL": proxy.url, **SWEPT}
    pattern = {"parts": r"^PUT .*partNumber=3", "log": r"^PUT .*/catalogue/log/"}[when]
    async with ServiceProcess(tmp_path, **place) as process, process.client() as client:
        fault = proxy.add(pattern, hold_request=True)
        uploading = asyncio.create_task(upload(client))
        await asyncio.to_thread(fault.wait)
        process.kill()
        with pytest.raises(httpx.TransportError):
            await uploading
        assert left.keys("files")
    proxy.clear()
    async with ServiceProcess(tmp_path, **place) as process, process.client() as client:
        await left.nothing()
        assert (await client.get("/files")).text.splitlines() == ['{"$end":{"count":0}}']


async def test_only_parts_that_nobody_continues_are_swept(
    service: Service, left: Left, endpoint_url: str
) -> None:
    """The response to the creation of a multipart upload may have been lost."""
    create = {"Tus-Resumable": "1.0.0", "Upload-Length": "20000000"}
    append = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"} | {
        "Content-Type": "application/offset+octet-stream"
    }
    async with service.client() as peer:
        created = await peer.post("/uploads", headers=create)
        if created.status_code in (404, 405):
            pytest.skip("there are no resumable uploads")
        url = created.headers["location"]
        assert (await peer.patch(url, content=LARGE, headers=append)).status_code == 204
        [key] = left.keys("files")
        s3 = client(endpoint_url)
        for lost in (key, key[:-12] + "0" * 12):
            s3.create_multipart_upload(Bucket=BUCKET, Key=lost)
        s3.close()
        async with asyncio.timeout(PATIENCE):
            while left.keys("files") != [key]:
                await asyncio.sleep(0.05)
        append["Upload-Offset"] = str(len(LARGE))
        rest = await peer.patch(url, content=bytes(20_000_000 - len(LARGE)), headers=append)
        assert rest.status_code == 204


async def test_a_sweep_that_takes_a_lease_stops_the_record(
    service: Service, proxy: FaultProxy, left: Left
) -> None:
    """A process that was suspended has lost its lease, and does not know it yet."""
    storage: S3Storage = service.app.state.storage
    async with service.client() as client:
        fault = proxy.add(f"^PUT .*{FILE}", hold_response=True)
        uploading = asyncio.create_task(upload(client, b"a"))
        await asyncio.to_thread(fault.wait)

        async def lose_leases() -> None:
            storage.leases._held.clear()

        await service.in_server(lose_leases())
        await left.nothing()
        fault.remove()
        failed = await uploading

        assert failed.status_code == 503
        assert (await client.get("/files")).text.splitlines() == ['{"$end":{"count":0}}']


async def test_s3_sends_a_file_at_a_url_of_its_own(
    serve: Callable[..., Any], proxy: FaultProxy
) -> None:
    service = await serve(download={"offload": "presigned"})
    async with service.client() as client:
        name = {
            "Content-Disposition": 'attachment; filename="a b.txt"',
            "Content-Type": "text/plain",
        }
        url = (await upload(client, headers=name)).json()["url"]
        moved = await client.get(url)
        named = await client.get(f"{url}?filename=c.txt")
        async with httpx.AsyncClient() as other:
            renamed = await other.get(named.headers["location"])
            sent = await other.get(moved.headers["location"])
            part = await other.get(moved.headers["location"], headers={"Range": "bytes=5-9"})

        assert moved.status_code == 307
        assert moved.headers["cache-control"] == "no-store"
        assert sent.content == LARGE
        assert sent.headers["content-disposition"].startswith('attachment; filename="a b.txt"')
        assert renamed.headers["content-disposition"].startswith('attachment; filename="c.txt"')
        assert sent.headers["content-type"] == "text/plain"
        assert (part.status_code, part.content) == (206, LARGE[5:10])
        assert (await client.get(url, headers={"Range": "bytes=5-9"})).status_code == 307


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {"Range": "bytes=5-9,20-30"}, 206),
        ("", {"Range": "bytes=999999999-"}, 416),
        ("", {"If-None-Match": '"x"'}, 200),
        ("", {"If-Match": "*"}, 200),
        ("", {"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 200),
        ("", {"Want-Repr-Digest": "sha-256=1"}, 200),
        ("?inline=1", {}, 200),
    ],
)
async def test_the_service_sends_what_s3_would_send_differently(
    serve: Callable[..., Any], query: str, headers: dict[str, str], status: int
) -> None:
    service = await serve(download={"offload": "presigned"})
    async with service.client() as client:
        url = (await upload(client, headers={"Content-Type": "text/plain"})).json()["url"]
        assert (await client.get(url + query, headers=headers)).status_code == status
        assert (await client.head(url)).status_code == 200
