"""Limits count per principal: all keys of one share them, and others are not affected."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..keys import Keys, bearer

TUS = {"Tus-Resumable": "1.0.0"}
#: More bytes than the buffers of a connection hold.
LARGE = 32 << 20


async def clients_of(
    stack: AsyncExitStack, service: Any, keys: Keys
) -> tuple[httpx.AsyncClient, httpx.AsyncClient, httpx.AsyncClient]:
    """Return clients with two keys of one principal, and with that of another one."""
    owners = [("alice", "phone"), ("alice", "laptop"), ("bob", "bob")]
    clients = [keys.client(service, owner, name=name) for owner, name in owners]
    first, second, other = [await stack.enter_async_context(client) for client in clients]
    return first, second, other


async def test_the_stored_bytes_of_a_principal_are_limited(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings, storage={"quota": 10})
    async with AsyncExitStack() as stack:
        phone, laptop, bob = await clients_of(stack, service, keys)
        answers = [await each.post("/files", content=b"123456") for each in (phone, laptop, bob)]

    assert [answer.status_code for answer in answers] == [201, 413, 201]
    assert "retry-after" not in answers[1].headers  # Waiting does not help.


async def test_unfinished_uploads_reserve_the_bytes_of_their_principal(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings, storage={"quota": 10})
    async with AsyncExitStack() as stack:
        phone, laptop, bob = await clients_of(stack, service, keys)
        fields = TUS | {"Upload-Length": "6"}
        answers = [await each.post("/uploads", headers=fields) for each in (phone, laptop, bob)]

    assert [answer.status_code for answer in answers] == [201, 413, 201]


async def test_the_files_of_a_principal_are_limited_and_unfinished_uploads_count(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings, storage={"max_files_per_owner": 2})
    async with AsyncExitStack() as stack:
        phone, laptop, bob = await clients_of(stack, service, keys)
        fields = TUS | {"Upload-Length": "6"}
        part = fields | {"Upload-Concat": "partial"}  # It never becomes a file.
        answers = [
            await phone.post("/files", content=b"x"),
            await phone.post("/uploads", headers=part),
            await laptop.post("/uploads", headers=fields),
            await phone.post("/uploads", headers=fields),
            await phone.post("/uploads", headers={"Upload-Complete": "?0"}),
            await bob.post("/uploads", headers=fields),
            await phone.post("/files", content=b"x"),
            await laptop.post("/files", content=b"x"),
        ]

    statuses = [answer.status_code for answer in answers]
    assert statuses == [201, 201, 201, 413, 413, 201, 201, 413]


@pytest.mark.parametrize("path", ["/files/{id}", "/archive?id={id}", "/exports/lines?count=1"])
async def test_the_downloads_of_a_principal_are_limited(
    path: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    limits = {"max_streams_per_client": 1, "send_timeout": 60}
    service = await serve(access=keys.settings, streaming=limits)
    async with AsyncExitStack() as stack:
        phone, laptop, bob = await clients_of(stack, service, keys)
        own, other = [
            (await each.post("/files", content=bytes(LARGE))).json()["id"] for each in (phone, bob)
        ]
        peer = await stack.enter_async_context(service.raw_connection(64 << 10))
        [key] = bearer(keys.new("alice", name="tablet")).values()
        await peer.get(f"/files/{own}", f"Authorization: {key}")
        await peer.read_head()
        answers = [
            await each.get(path.format(id=file_id), headers={"Range": "bytes=0-0"})
            for each, file_id in ((laptop, own), (bob, other))
        ]

    assert answers[0].status_code == 429
    assert answers[0].headers["retry-after"] == "1"
    assert answers[1].is_success  # From the same address.
