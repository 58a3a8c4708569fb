"""Unfinished uploads have an owner, in both protocols, also after a restart of the service."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ...peer import PATIENCE
from ...resumable import draft, tus
from ...service import Service
from ..keys import Keys, bearer, without_key

UNKNOWN = "/uploads/01890000-0000-7000-8000-000000000000"
DATA = b"0123456789"
TUS = {"Tus-Resumable": tus.VERSION}
PROTOCOLS = ["tus", "draft"]
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


async def begin(client: httpx.AsyncClient, protocol: str, data: bytes = b"", **more: str) -> str:
    """Create an upload of 10 bytes with its first ones, and return its URL."""
    fields = {"Upload-Length": "10", **more}
    if protocol == "tus":
        kind = {"Content-Type": tus.CHUNK} if data else {}
        answer = await client.post("/uploads", headers=TUS | fields | kind, content=data)
    else:
        answer = await draft.create(client, data, fields)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


async def use(
    client: httpx.AsyncClient, protocol: str, method: str, url: str, offset: int = 0
) -> httpx.Response:
    """Send a request for an upload; PATCH has the rest of its bytes."""
    headers = dict(TUS) if protocol == "tus" else {}
    if method == "PATCH":
        if protocol == "draft":
            return await draft.append(client, url, offset, DATA[offset:], complete=True)
        headers |= {"Content-Type": tus.CHUNK, "Upload-Offset": str(offset)}
    body = DATA[offset:] if method == "PATCH" else b""
    return await client.request(method, url, headers=headers, content=body)


def shown(response: httpx.Response, url: str) -> tuple[Any, ...]:
    """Return a response without the id of the upload."""
    headers = {k: v for k, v in response.headers.items() if k not in ("date", "x-request-id")}
    body = response.text.replace(tus.id_of(url), "ID")
    return response.status_code, headers, body.replace(response.headers["x-request-id"], "")


@protocols
@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "DELETE"])
async def test_the_upload_of_another_owner_does_not_exist(
    method: str, protocol: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(keys.client(service, "alice"))
        bob = await stack.enter_async_context(keys.client(service, "bob"))
        reader = keys.client(service, "alice", "files:read", name="reader")
        nobody = [await stack.enter_async_context(e) for e in (reader, without_key(service))]
        url = await begin(alice, protocol, DATA[:4])
        refused = await use(bob, protocol, method, url, 4)
        unknown = await use(bob, protocol, method, UNKNOWN, 4)
        without = [await use(each, protocol, method, url, 4) for each in nobody]
        own = await use(alice, protocol, method, url, 4)

    assert refused.status_code == 404
    assert shown(refused, url) == shown(unknown, UNKNOWN)
    assert [each.status_code for each in without] == [403, 401]
    assert own.is_success


@protocols
@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "DELETE"])
async def test_the_upload_of_another_owner_does_not_exist_when_it_is_complete(
    method: str, protocol: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    async with keys.client(service, "alice") as alice, keys.client(service, "bob") as bob:
        url = await begin(alice, protocol, DATA[:4])
        await use(alice, protocol, "PATCH", url, 4)
        refused = await use(bob, protocol, method, url, 10)
        record = await alice.get(f"/files/{tus.id_of(url)}/record")

    assert (refused.status_code, record.json()["owner"]) == (404, "alice")


@protocols
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
async def test_nobody_else_interrupts_an_upload(
    method: str, protocol: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings, streaming={"idle_timeout": 30})
    key = "Authorization: Bearer " + keys.new("alice", name="first")
    async with (
        keys.client(service, "alice") as alice,
        keys.client(service, "bob") as bob,
        service.raw_connection() as peer,
    ):
        url = await begin(alice, "tus")
        await tus.begin_patch(peer, url, 0, "Content-Length: 10", key)
        await peer.send(DATA[:4])
        refused = await use(bob, protocol, method, url)
        await peer.send(DATA[4:])
        answer = await peer.read_head()

    assert refused.status_code == 404
    assert answer.startswith(b"HTTP/1.1 204 ")


@protocols
async def test_another_key_of_the_principal_continues_after_a_restart(
    protocol: str, sections: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    async with (
        Service(**sections | {"access": keys.settings}) as service,
        keys.client(service, "alice", name="phone") as phone,
    ):
        path = (await begin(phone, protocol, DATA[:4])).removeprefix(service.url)

    keys.revoke("phone")
    async with (
        Service(**sections | {"access": keys.settings}) as service,
        keys.client(service, "alice", name="laptop") as laptop,
        keys.client(service, "bob") as bob,
    ):
        refused = await use(bob, protocol, "PATCH", path, 4)
        answer = await use(laptop, protocol, "PATCH", path, 4)
        record = (await laptop.get(f"/files/{tus.id_of(path)}/record")).json()

    assert (refused.status_code, answer.is_success) == (404, True)
    assert (record["owner"], record["size"]) == ("alice", 10)


@protocols
async def test_what_an_admin_finishes_still_belongs_to_its_owner(
    protocol: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    async with (
        keys.client(service, "alice") as alice,
        keys.client(service, "root", "admin") as admin,
    ):
        url = await begin(alice, protocol, DATA[:4])
        assert (await use(admin, protocol, "HEAD", url)).headers["upload-offset"] == "4"
        await use(admin, protocol, "PATCH", url, 4)
        record = (await alice.get(f"/files/{tus.id_of(url)}/record")).json()

    assert (record["owner"], record["size"]) == ("alice", 10)


async def test_a_part_of_another_owner_is_no_part(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    async with (
        keys.client(service, "alice") as alice,
        keys.client(service, "bob") as bob,
        keys.client(service, "root", "admin") as admin,
    ):
        partial = {"Upload-Concat": "partial"}
        own = await begin(bob, "tus", DATA, **partial)
        other = await begin(alice, "tus", DATA, **partial)
        headers = TUS | {"Upload-Concat": f"final;{own} {other}"}
        answers = [await each.post("/uploads", headers=headers) for each in (bob, admin)]
        headers = TUS | {"Upload-Concat": f"final;{own} {service.url}{UNKNOWN}"}
        unknown = await bob.post("/uploads", headers=headers)

    assert [answer.status_code for answer in answers] == [404, 201]
    assert shown(answers[0], other) == shown(unknown, UNKNOWN)


@pytest.mark.parametrize("path", ["/files", "/uploads"])
async def test_a_creation_needs_a_key_with_the_scope(
    path: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    async with (
        keys.client(service, "alice") as alice,
        keys.client(service, "alice", "files:read", name="reader") as reader,
        without_key(service) as anonymous,
    ):
        answers = [await draft.create(e, DATA, path=path) for e in (reader, anonymous, alice)]
        whole = await draft.create(alice, DATA, complete=True, path=path)

    assert [answer.status_code for answer in answers] == [403, 401, 201]
    assert (whole.status_code, whole.json()["owner"]) == (201, "alice")


async def test_the_deletion_of_a_file_by_tus_needs_its_scope(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    async with (
        keys.client(service, "alice") as alice,
        keys.client(service, "alice", "files:write", name="writer") as writer,
    ):
        complete = await begin(writer, "tus", DATA)
        unfinished = await begin(writer, "tus")
        refused = await use(writer, "tus", "DELETE", complete)
        assert (await use(writer, "tus", "DELETE", unfinished)).status_code == 204
        assert (await alice.get(f"/files/{tus.id_of(complete)}/record")).status_code == 200
        allowed = await use(alice, "tus", "DELETE", complete)

    assert (refused.status_code, allowed.status_code) == (403, 204)


async def test_only_its_owner_is_told_that_an_upload_has_expired(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings, upload={"expire_after": 2})
    async with keys.client(service, "alice") as alice, keys.client(service, "bob") as bob:
        url = await begin(alice, "tus")
        end = time.monotonic() + PATIENCE
        while (own := await use(alice, "tus", "HEAD", url)).status_code == 200:
            assert time.monotonic() < end
        other = await use(bob, "tus", "HEAD", url)

    assert (own.status_code, other.status_code) == (410, 404)


async def test_the_unfinished_uploads_of_a_principal_are_limited(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings, upload={"max_incomplete_per_client": 2})
    first, second = [bearer(keys.new("alice", name=name)) for name in ("phone", "laptop")]
    async with without_key(service) as client, keys.client(service, "bob") as bob:
        fields = TUS | {"Upload-Length": "10"}
        answers = [
            await client.post("/uploads", headers=fields | key) for key in (first, second, first)
        ]
        other = await bob.post("/uploads", headers=fields)

    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[2].headers["retry-after"] == "60"
    assert other.status_code == 201  # From the same address.
