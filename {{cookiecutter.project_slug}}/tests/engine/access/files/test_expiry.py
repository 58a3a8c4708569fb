"""Uploads and downloads that outlive their key end after the grace period."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from {{cookiecutter.package_name}}.engine.download import ExportRouter

from ...peer import PATIENCE, Peer
from ...resumable import draft, tus
from ..keys import Keys, bearer, without_key

DATA = b"0123456789"
FORM = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n'
#: More bytes than the buffers of a connection hold.
LARGE = 32 << 20
PATIENT = {"idle_timeout": 60, "send_timeout": 60}


class Row(BaseModel):
    text: str


async def ended_with(peer: Peer) -> bytes:
    """Return what arrives until the server closes or resets the connection."""
    try:
        return await peer.read_to_end()
    except ConnectionResetError:
        return peer.unread


async def refused(service: Any, key: str) -> None:
    """Wait until the service refuses a key."""
    async with asyncio.timeout(PATIENCE), without_key(service) as client:
        while (await client.get("/files", headers=bearer(key))).status_code != 401:
            await asyncio.sleep(0.05)


def lines(method: str, path: str, key: str, *headers: str) -> bytes:
    start = [f"{method} {path} HTTP/1.1", "Host: test", f"Authorization: Bearer {key}"]
    return "\r\n".join([*start, *headers, "", ""]).encode()


@pytest.mark.parametrize("way", ["revoked", "expired"])
@pytest.mark.parametrize("protocol", ["tus", "draft"])
async def test_an_upload_ends_with_its_key_and_another_key_continues(
    protocol: str, way: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path, grace=0)
    service = await serve(access=keys.settings, streaming=PATIENT)
    seconds = 2.0 if way == "expired" else None
    phone = keys.new("alice", name="phone", seconds=seconds)
    async with keys.client(service, "alice", name="laptop") as laptop:
        if protocol == "tus":
            fields = {"Tus-Resumable": tus.VERSION, "Upload-Length": "10"}
            kind = [f"Tus-Resumable: {tus.VERSION}", f"Content-Type: {tus.CHUNK}"]
            created = await laptop.post("/uploads", headers=fields)
        else:
            kind = [f"Content-Type: {draft.PARTIAL}", "Upload-Complete: ?1"]
            created = await draft.create(laptop)
        path = created.headers["location"].removeprefix(service.url)
        async with service.raw_connection() as peer:
            kind += ["Upload-Offset: 0", "Content-Length: 10", "Expect: 100-continue"]
            await peer.send(lines("PATCH", path, phone, *kind))
            await peer.read_until(b"100 Continue\r\n\r\n")
            await peer.send(DATA[:4])
            await tus.settle(service)
            if way == "revoked":
                keys.revoke("phone")
            answer = await peer.read_head()
        ended = await service.ended(f"PATCH {draft.ROUTE}")

        headers = {"Tus-Resumable": tus.VERSION} if protocol == "tus" else {}
        offset = (await laptop.head(path, headers=headers)).headers["upload-offset"]
        if protocol == "tus":
            more = headers | {"Content-Type": tus.CHUNK, "Upload-Offset": offset}
            await laptop.patch(path, headers=more, content=DATA[4:])
        else:
            await draft.append(laptop, path, int(offset), DATA[4:], complete=True)
        file = await laptop.get(f"/files/{tus.id_of(path)}")

    assert (offset, file.content) == ("4", DATA)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'error="invalid_token"' in answer
    assert str(ended.outcome) == "rejected"


@pytest.mark.parametrize("kind", ["raw", "form", "creation"])
async def test_an_upload_that_cannot_be_resumed_leaves_nothing(
    kind: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path, grace=0)
    service = await serve(access=keys.settings, streaming=PATIENT)
    key = keys.new("alice")
    fields = {
        "raw": [],
        "form": ["Content-Type: multipart/form-data; boundary=x"],
        "creation": ["Upload-Complete: ?1"],
    }[kind]
    async with service.raw_connection() as peer:
        more = [*fields, "Content-Length: 1000", "Expect: 100-continue"]
        await peer.send(lines("POST", "/files", key, *more))
        await peer.read_until(b"100 Continue\r\n\r\n")
        await peer.send(FORM + DATA)
        await tus.settle(service)
        keys.revoke("alice")
        answer = await peer.read_head()

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert (await service.ended("POST /files")).status == 401
    assert tus.unfinished(tmp_path) == []
    async with keys.client(service, "alice", name="laptop") as laptop:
        assert '"count":0' in (await laptop.get("/files")).text.replace(" ", "")


@pytest.mark.parametrize(
    ("route", "path"), [("/files/{file_id}", "/files/{id}"), ("/archive", "/archive?id={id}")]
)
async def test_a_download_is_cut_with_its_key_and_can_be_resumed_with_another(
    route: str, path: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path, grace=0)
    service = await serve(access=keys.settings, streaming=PATIENT)
    phone = keys.new("alice", name="phone")
    async with keys.client(service, "alice", name="laptop") as laptop:
        stored = await laptop.post("/files", content=bytes(LARGE))
        path = path.format(id=stored.json()["id"])
        async with service.raw_connection(64 << 10) as peer:
            await peer.send(lines("GET", path, phone))
            head = await peer.read_head()
            keys.revoke("phone")
            ended = await service.ended(f"GET {route}")
            received = await ended_with(peer)
        rest = await laptop.get(path, headers={"Range": f"bytes={len(received)}-"})

    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: 33554" in head.lower()
    assert len(received) < LARGE
    assert str(ended.outcome) == "rejected"
    assert rest.status_code == 206
    total = int(rest.headers["content-range"].partition("/")[2])
    assert len(received) + len(rest.content) == total


@pytest.mark.parametrize("form", ["jsonl", "csv", "txt"])
async def test_an_export_that_is_cut_never_looks_complete(
    form: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    router = ExportRouter()

    @router.export("/endless")
    async def endless() -> AsyncGenerator[Row]:
        while True:
            yield Row(text="x" * 10_000)

    keys = Keys(tmp_path, grace=0)
    service = await serve(router, access=keys.settings, streaming=PATIENT)
    key = keys.new("alice")
    async with service.raw_connection(64 << 10) as peer:
        await peer.send(lines("GET", f"/endless?format={form}", key))
        head = await peer.read_head()
        keys.revoke("alice")
        ended = await service.ended("GET /endless")
        received = await ended_with(peer)

    assert head.startswith(b"HTTP/1.1 200 ")
    assert str(ended.outcome) == "rejected"
    assert not received.endswith(b"0\r\n\r\n")
    assert b"$end" not in received


async def test_a_request_may_end_within_the_grace_period(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path, grace=60)
    service = await serve(access=keys.settings, streaming=PATIENT)
    key = keys.new("alice")
    async with service.raw_connection() as peer:
        more = ["Content-Length: 10", "Expect: 100-continue", "Connection: close"]
        await peer.send(lines("POST", "/files", key, *more))
        await peer.read_until(b"100 Continue\r\n\r\n")
        keys.revoke("alice")
        await refused(service, key)
        await peer.send(DATA)
        answer = await peer.read_to_end()

    assert answer.startswith(b"HTTP/1.1 201 ")
