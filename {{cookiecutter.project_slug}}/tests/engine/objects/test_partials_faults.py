"""Unfinished uploads while requests to S3 fail, are lost, or come too late."""

import asyncio
import base64
import hashlib
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.objects import bucket

from ..peer import PATIENCE
from ..resumable.tus import Tus, id_of, let_pass
from ..service import Service
from .faults import FaultProxy
from .partials import DATA, PART
from .servers import bucket_url, endpoint_url

__all__ = ["bucket_url", "endpoint_url"]
#: The requests to S3 of an upload, by name.
REQUESTS = {
    "a piece": "PUT .*/pieces/",
    "a part": "PUT .*partNumber",
    "the beginning": "POST .*uploads",
    "the end": "POST .*uploadId",
    "a file": "PUT .*/files/[^?]* ",
    "a record": "PUT .*/catalogue/log/",
    "a listing": "GET .*(list-type|uploadId)",
}
FAULTS: list[dict[str, Any]] = [
    {"status": 503},
    {"lose": True},
    {"cut_request": 100},
    {"cut_response": 10},
]


@pytest.fixture
def proxy(endpoint_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(endpoint_url) as proxy:
        yield proxy


@pytest.fixture
async def faulty(
    serve: Callable[..., Any],
    bucket_url: str,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> Service:
    """A service between which and S3 is the proxy; it repeats no request."""
    monkeypatch.setattr(bucket, "TRIES", 1)
    service: Service = await serve(
        storage={"url": bucket_url, "endpoint_url": proxy.url, "redis_url": None},
        upload={"max_size": 1 << 30},
    )
    return service


def checksum(data: bytes) -> dict[str, str]:
    value = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    return {"Upload-Checksum": f"crc32 {value}"}


async def offset(tus: Tus, url: str) -> int:
    """Ask for the offset until S3 responds again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            response = await tus.head(url)
            if response.status_code < 500:
                assert response.status_code == 200, response
                return int(response.headers["upload-offset"])


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_no_byte_is_lost_or_doubled_by_a_fault(
    faulty: Service, proxy: FaultProxy, request_: str, fault: dict[str, Any]
) -> None:
    async with Tus(faulty) as tus:
        end, data = 0, DATA[: PART + 1000]
        url = await tus.upload(len(data))
        for size in (10, PART, len(data)):
            fault_ = proxy.add(REQUESTS[request_], times=1, **fault)
            sent = data[end : end + size]
            response = await tus.patch(url, end, sent, checksum(sent) if size == PART else {})
            assert response.status_code in (204, 503)
            fault_.remove()
            found = await offset(tus, url)
            assert found == end + len(sent) if response.status_code == 204 else found >= end
            end = found
        while end < len(data):
            assert (await tus.patch(url, end, data[end:])).status_code == 204
            end = await offset(tus, url)
        downloaded = (await tus.http.get(f"/files/{id_of(url)}")).content
    assert hashlib.sha256(downloaded).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("seed", range(3))
async def test_random_requests_and_faults(faulty: Service, proxy: FaultProxy, seed: int) -> None:
    rng = random.Random(seed)
    data, end = DATA[: rng.randrange(PART, len(DATA))], 0
    async with Tus(faulty) as tus:
        url = await tus.upload(len(data))
        for _ in range(25):
            if end == len(data):
                break
            proxy.clear()
            if rng.random() < 0.5:
                pattern = rng.choice(list(REQUESTS.values()))
                proxy.add(pattern, times=1, **rng.choice(FAULTS))
            sent = data[end : end + rng.choice([1, 1000, 1 << 20, PART, 2 * PART])]
            is_wrong = rng.random() < 0.3
            fields = checksum(sent) if rng.random() < 0.5 or is_wrong else {}
            body = bytes(len(sent)) if is_wrong else sent
            response = await tus.patch(url, end, body, fields)
            assert response.status_code in ((460, 503) if is_wrong else (204, 503))
            found = await offset(tus, url)
            if is_wrong:
                assert found == end
            elif response.status_code == 204:
                assert found == end + len(sent)
            assert end <= found <= end + len(sent)
            end = found
        proxy.clear()
        while end < len(data):
            assert (await tus.patch(url, end, data[end:])).status_code == 204
            end = await offset(tus, url)
        downloaded = (await tus.http.get(f"/files/{id_of(url)}")).content
    assert hashlib.sha256(downloaded).digest() == hashlib.sha256(data).digest()


async def test_requests_to_s3_are_few(faulty: Service, proxy: FaultProxy) -> None:
    async with Tus(faulty) as tus:
        url = await tus.upload(2 * PART)
        counts = []
        for start in range(0, 2 * PART, 1 << 20):
            before = len(proxy.requests)
            response = await tus.patch(url, start, DATA[start : start + (1 << 20)])
            assert response.status_code == 204
            counts.append([line.split()[0] for line in proxy.requests[before:]])
    assert sum(map(len, counts)) < 8 * len(counts)
    assert max(map(len, counts[:-1])) < 10
    assert len(counts[-1]) < 20  # It becomes a file.
    # Neither the log nor the parts grow with small requests.
    assert proxy.count("PUT .*partNumber") == 2


async def test_uploads_expire_with_all_they_have(
    faulty: Service, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = faulty.app.state.uploads
    async with Tus(faulty) as tus:
        urls = [await tus.upload(2 * PART, body=DATA[:size]) for size in (3, PART + 3)]
        await faulty.in_server(sessions.sweep())
        before = len(proxy.requests)
        await faulty.in_server(sessions.sweep())
        assert not [line for line in proxy.requests[before:] if "uploadId" in line]
        assert [await tus.offset(url) for url in urls] == [3, PART + 3]
        with monkeypatch.context() as patch:
            let_pass(patch, days=1.5)
            await faulty.in_server(sessions.sweep())
            assert {(await tus.head(url)).status_code for url in urls} == {410}
        storage = faulty.app.state.storage
        client, name, key = storage.pool.client, storage.bucket.name, storage.bucket.key

        async def left() -> list[Any]:
            found = []
            for folder in ("files", "pieces"):
                page = await client.list_objects_v2(Bucket=name, Prefix=key(folder))
                found += page.get("Contents", [])
            page = await client.list_multipart_uploads(Bucket=name, Prefix=key("files"))
            return [*found, *page.get("Uploads", [])]

        assert await faulty.in_server(left()) == []
