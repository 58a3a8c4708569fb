"""Files and archives of another owner: every way to them is a 404, as if they did not exist."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.engine.kernel import public
from {{cookiecutter.package_name}}.engine.storage import Draft, StorageDep, seen_record

from ..keys import Keys, without_key

#: Every request about a file that exists, with its status.
WAYS = [
    ("GET", "/files/{id}", 200),
    ("HEAD", "/files/{id}", 200),
    ("DELETE", "/files/{id}", 204),
    ("GET", "/files/{id}/record", 200),
    ("GET", "/archive?id={id}", 200),
    ("HEAD", "/archive?id={id}", 200),
    ("POST", "/archive", 200),
    ("POST", "/files/{id}/links", 201),
]
UNKNOWN = "01890000-0000-7000-8000-000000000000"


class Senders(NamedTuple):
    alice: httpx.AsyncClient
    bob: httpx.AsyncClient
    admin: httpx.AsyncClient
    #: A principal without a scope for files, and no principal.
    nobody: httpx.AsyncClient
    anonymous: httpx.AsyncClient


@pytest.fixture
async def senders(serve: Callable[..., Any], tmp_path: Path) -> Any:
    async with AsyncExitStack() as stack:
        keys = Keys(tmp_path)
        yield await enter(stack, await serve(access=keys.settings), keys)


async def enter(stack: AsyncExitStack, service: Any, keys: Keys) -> Senders:
    clients = [
        keys.client(service, "alice"),
        keys.client(service, "bob"),
        keys.client(service, "root", "admin"),
        keys.client(service, "alice", "metrics:read", name="monitor"),
        without_key(service),
    ]
    return Senders(*[await stack.enter_async_context(client) for client in clients])


async def stored(client: httpx.AsyncClient, data: bytes = b"hello", name: str = "a.txt") -> Any:
    """Store a file, and return its record."""
    response = await client.post(f"/files?filename={name}", content=data)
    assert response.status_code == 201, response.text
    return response.json()


async def ask(
    client: httpx.AsyncClient, method: str, path: str, file_id: str, **headers: str
) -> httpx.Response:
    body: Any = None
    if method == "POST":
        body = [file_id] if path == "/archive" else {"expires_in": 60}
    return await client.request(method, path.format(id=file_id), json=body, headers=headers)


def shown(response: httpx.Response, file_id: str) -> tuple[Any, ...]:
    """Return a response without the id of the file."""
    headers = {k: v for k, v in response.headers.items() if k not in ("date", "x-request-id")}
    body = response.text.replace(file_id, "ID").replace(response.headers["x-request-id"], "")
    return response.status_code, headers, body


@pytest.mark.parametrize(("method", "path", "status"), WAYS)
async def test_the_file_of_another_owner_does_not_exist(
    method: str, path: str, status: int, senders: Senders
) -> None:
    file = await stored(senders.alice)
    refused = await ask(senders.bob, method, path, file["id"])
    unknown = await ask(senders.bob, method, path, UNKNOWN)
    allowed = await ask(senders.alice, method, path, file["id"])

    assert (file["owner"], refused.status_code, allowed.status_code) == ("alice", 404, status)
    assert shown(refused, file["id"]) == shown(unknown, UNKNOWN)


async def test_an_admin_sees_the_files_of_all(senders: Senders) -> None:
    for method, path, status in WAYS:
        file = await stored(senders.alice)
        assert (await ask(senders.admin, method, path, file["id"])).status_code == status


async def test_a_file_needs_a_key_with_the_scope(senders: Senders) -> None:
    file = await stored(senders.alice)
    for method, path, _ in WAYS:
        answers = [await ask(each, method, path, file["id"]) for each in senders[3:]]
        assert [answer.status_code for answer in answers] == [403, 401], path


@pytest.mark.parametrize("name", ["If-None-Match", "If-Match", "If-Modified-Since", "Range"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_conditional_requests_reveal_nothing(
    method: str, name: str, senders: Senders
) -> None:
    file = await stored(senders.alice)
    tag = (await senders.alice.head(f"/files/{file['id']}")).headers["etag"]
    later = "Fri, 01 Jan 2100 00:00:00 GMT"
    values = {"If-Match": '"x"', "If-None-Match": tag, "If-Modified-Since": later}
    value = values.get(name, "bytes=9-")
    refused = await ask(senders.bob, method, "/files/{id}", file["id"], **{name: value})
    own = await ask(senders.alice, method, "/files/{id}", file["id"], **{name: value})

    assert refused.status_code == 404
    assert "etag" not in refused.headers
    assert own.status_code in (200, 204, 304, 412, 416)


async def test_an_archive_with_one_file_of_another_owner_is_not_sent(senders: Senders) -> None:
    own, other = await stored(senders.bob), await stored(senders.alice)
    tag = (await senders.alice.get(f"/archive?id={other['id']}")).headers["etag"]
    path = f"/archive?id={own['id']}&id={other['id']}"
    answers = [
        await senders.bob.get(path),
        await senders.bob.get(path, headers={"If-None-Match": "*"}),
        await senders.bob.get(f"/archive?id={other['id']}", headers={"If-None-Match": tag}),
        await senders.bob.post("/archive", data={"id": [own["id"], other["id"]]}),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert (await senders.admin.get(path)).status_code == 200


@pytest.mark.local
async def test_nginx_is_not_told_to_send_the_file_of_another_owner(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings, download={"offload": "x-accel-redirect"})
    async with keys.client(service, "alice") as alice, keys.client(service, "bob") as bob:
        file = await stored(alice)
        own, other = [await each.get(f"/files/{file['id']}") for each in (alice, bob)]

    assert "x-accel-redirect" in own.headers
    assert (other.status_code, "x-accel-redirect" in other.headers) == (404, False)


async def test_a_listing_has_the_own_files_only(senders: Senders) -> None:
    owners = [senders.alice, senders.bob] * 3
    ids = [(await stored(each, name=f"{i}.txt"))["id"] for i, each in enumerate(owners)]

    assert await listed(senders.alice) == ids[::2]
    assert await listed(senders.bob) == ids[1::2]
    assert await listed(senders.admin) == ids
    refused = [await each.get("/files") for each in (senders.nobody, senders.anonymous)]
    assert [each.status_code for each in refused] == [403, 401]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_have_the_own_files_once_and_in_order(limit: int, senders: Senders) -> None:
    owners = [senders.alice, senders.bob, senders.bob, senders.alice] * 2
    ids = [(await stored(each))["id"] for each in owners]
    own = [file_id for file_id, owner in zip(ids, owners, strict=True) if owner is senders.bob]
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        response = await senders.bob.get(f"/files?after={after}&limit={limit}")
        *rows, end = [httpx.Response(200, text=line).json() for line in response.iter_lines()]
        assert len(rows) == min(limit, len(own) - len(found))
        found += [row["id"] for row in rows]
        after = end["$end"].get("next")

    assert found == own


async def test_a_page_reads_the_own_records_only(serve: Callable[..., Any], tmp_path: Path) -> None:
    keys, statements = Keys(tmp_path), list[str]()
    service = await serve(access=keys.settings)
    catalogue = service.app.state.storage.catalogue
    async with keys.client(service, "alice") as alice:
        await stored(alice)
        await service.call(lambda: catalogue._reader.set_trace_callback(statements.append))
        await listed(alice)
    listing = next(each for each in statements if "LIMIT" in each)
    plan = await service.in_server(catalogue.read(f"EXPLAIN QUERY PLAN {listing}"))

    assert [row[3] for row in plan] == ["SEARCH files USING INDEX listed (<expr>=? AND position>?)"]


async def test_the_files_of_a_form_belong_to_its_sender(senders: Senders) -> None:
    files = [("files", ("a.txt", b"a")), ("files", ("b.txt", b"b"))]
    form = {"owner": "bob"}  # It is a field as any other.
    response = await senders.alice.post("/files", files=files, data=form)

    assert [record["owner"] for record in response.json()] == ["alice", "alice"]
    assert await listed(senders.bob) == []
    refused = [await e.post("/files", files=files) for e in (senders.nobody, senders.anonymous)]
    assert [each.status_code for each in refused] == [403, 401]


@pytest.mark.parametrize("max_age", [0, 60])
async def test_shared_caches_keep_no_file(
    max_age: int, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings, download={"max_age": max_age})
    async with keys.client(service, "alice") as alice:
        file = await stored(alice)
        path = f"/files/{file['id']}"
        tag = (await alice.get(path)).headers["etag"]
        answers = [
            await alice.get(path),
            await alice.head(path),
            await alice.get(path, headers={"Range": "bytes=0-1"}),
            await alice.get(path, headers={"If-None-Match": tag}),
            await alice.get(f"{path}/record"),
            await alice.get(f"/archive?id={file['id']}"),
        ]
        listing = await alice.get("/files")

    assert all("private" in answer.headers["cache-control"] for answer in answers)
    assert listing.headers["cache-control"] == "no-store"


async def test_a_public_route_shows_no_file_to_anonymous_clients(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    router = APIRouter()

    @router.get("/public/{file_id}")
    @public
    async def name_of(file_id: str, request: Request, storage: StorageDep) -> str:
        return (await seen_record(request, storage, file_id)).filename

    keys = Keys(tmp_path)
    service = await serve(router, access=keys.settings)
    async with (
        keys.client(service, "alice") as alice,
        keys.client(service, "bob") as bob,
        without_key(service) as anonymous,
    ):
        path = f"/public/{(await stored(alice))['id']}"
        answers = [await each.get(path) for each in (alice, bob, anonymous)]

    assert [answer.status_code for answer in answers] == [200, 404, 404]


async def test_a_file_of_the_service_itself_needs_an_owner(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    service = await serve(access=Keys(tmp_path).settings)

    async def store(owner: str | None) -> Any:
        storage = service.app.state.storage
        async with storage.create(Draft(filename="a.txt", owner=owner)) as writer:
            return await storage.commit(writer)

    with pytest.raises(ValueError, match="needs an owner"):
        await service.in_server(store(None))
    assert (await service.in_server(store("alice"))).owner == "alice"


async def listed(client: httpx.AsyncClient) -> list[str]:
    """Return the ids of a listing."""
    response = await client.get("/files")
    assert response.status_code == 200
    *rows, _ = [httpx.Response(200, text=line).json() for line in response.iter_lines()]
    return [row["id"] for row in rows]
