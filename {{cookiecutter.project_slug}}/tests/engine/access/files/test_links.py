"""Links: a signed address of one file, which needs no key until it expires."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest

from ..keys import Keys, without_key

DATA = b"0123456789"


async def stored(client: httpx.AsyncClient, kind: str = "video/mp4") -> str:
    """Store a file, and return its path."""
    response = await client.post("/files", content=DATA, headers={"Content-Type": kind})
    return f"/files/{response.json()['id']}"


async def link_to(client: httpx.AsyncClient, path: str, seconds: float = 60) -> str:
    response = await client.post(f"{path}/links", json={"expires_in": seconds})
    assert response.status_code == 201, response.text
    return str(response.json()["url"])


async def test_a_link_needs_no_key(serve: Callable[..., Any], tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    async with keys.client(service, "alice") as alice, without_key(service) as anonymous:
        path = await stored(alice)
        url = await link_to(alice, path)
        whole = await anonymous.get(url)
        head = await anonymous.head(url)
        part = await anonymous.get(url, headers={"Range": "bytes=4-"})
        tag = {"If-None-Match": whole.headers["etag"]}
        unchanged = await anonymous.get(url, headers=tag)
        resumed = await anonymous.get(
            url, headers={"Range": "bytes=6-", "If-Range": whole.headers["etag"]}
        )
        played = await anonymous.get(f"{url}&inline=1", headers={"Range": "bytes=0-"})
        named = await anonymous.get(f"{url}&filename=other.mp4")

    assert url.startswith(f"{service.url}{path}?signature=sl_")
    assert [whole.content, part.content, resumed.content] == [DATA, DATA[4:], DATA[6:]]
    statuses = [each.status_code for each in (whole, head, part, unchanged, resumed, played)]
    assert statuses == [200, 200, 206, 304, 206, 206]
    assert played.headers["content-disposition"].startswith("inline")
    assert 'filename="other.mp4"' in named.headers["content-disposition"]
    assert "private" in whole.headers["cache-control"]


async def test_a_link_is_for_one_file_and_for_reading(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    async with keys.client(service, "alice") as alice, without_key(service) as anonymous:
        path, other = await stored(alice), await stored(alice)
        query = (await link_to(alice, path)).partition("?")[2]
        requests = [
            ("GET", other),
            ("GET", f"{path}/record"),
            ("GET", "/files"),
            ("GET", f"/archive?id={path.rpartition('/')[2]}"),
            ("DELETE", path),
            ("POST", f"{path}/links"),
            ("POST", "/files"),
            ("POST", "/tickets"),
        ]
        answers = [
            await anonymous.request(method, f"{where}{'&' if '?' in where else '?'}{query}")
            for method, where in requests
        ]
        tus = {"Tus-Resumable": "1.0.0", "X-HTTP-Method-Override": "DELETE"}
        overridden = await anonymous.get(f"{path}?{query}", headers=tus)
        twice = await alice.get(f"{path}?{query}")

    assert [answer.status_code for answer in answers] == [401] * len(requests)
    assert overridden.status_code == 200
    assert twice.status_code == 400  # With a key, too.


async def test_the_streams_of_links_are_those_of_an_address(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings, streaming={"max_streams_per_client": 1})
    async with keys.client(service, "alice") as alice, without_key(service) as anonymous:
        path = await stored(alice)
        url = await link_to(alice, path)
        service.app.state.kernel.streams.update(["download alice"])
        responses = await anonymous.get(url), await alice.get(path)

    assert [each.status_code for each in responses] == [200, 429]


async def test_a_link_expires(serve: Callable[..., Any], tmp_path: Path) -> None:
    keys = Keys(tmp_path, link_age=100)
    service = await serve(access=keys.settings)
    async with keys.client(service, "alice") as alice, without_key(service) as anonymous:
        path = await stored(alice)
        expired = await anonymous.get(await link_to(alice, path, 0.001))
        longest = await alice.post(f"{path}/links", json={"expires_in": 1e9})
        usual = await alice.post(f"{path}/links", json={})
        wrong = [
            await alice.post(f"{path}/links", json={"expires_in": each})
            for each in (0, -1, "x", "NaN", None)
        ]

    assert (expired.status_code, usual.status_code) == (401, 201)
    left = datetime.fromisoformat(longest.json()["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=90) < left <= timedelta(seconds=100)
    assert [answer.status_code for answer in wrong] == [422] * len(wrong)


async def test_a_link_lends_the_access_of_the_owner_of_the_file(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    async with (
        keys.client(service, "alice") as alice,
        keys.client(service, "bob") as bob,
        keys.client(service, "root", "admin", name="admin") as admin,
        without_key(service) as anonymous,
    ):
        path = await stored(alice)
        assert (await bob.post(f"{path}/links", json={})).status_code == 404
        urls = [await link_to(each, path) for each in (alice, admin)]
        keys.revoke("admin")
        found = [(await anonymous.get(url)).content for url in urls]
        await alice.delete(path)
        missing = [(await anonymous.get(url)).status_code for url in urls]

    assert (found, missing) == ([DATA] * 2, [404] * 2)


@pytest.mark.parametrize(("now", "status"), [(False, 200), (True, 401)])
async def test_a_new_secret_keeps_links_unless_they_are_refused_now(
    now: bool, status: int, serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    service = await serve(access=keys.settings)
    settings = service.app.settings
    async with keys.client(service, "alice") as alice, without_key(service) as anonymous:
        path = await stored(alice)
        url = await link_to(alice, path)
        assert (await anonymous.get(url)).status_code == 200
        rotate = ["rotate", "--now"] if now else ["rotate"]
        await anyio.to_thread.run_sync(service.app.commands["keys"], settings, rotate)
        # The service reads the secrets again with the keys, at the latest for an unknown one.
        async with keys.client(service, "alice", name="laptop") as laptop:
            newer = await link_to(laptop, path)
        answers = [(await anonymous.get(each)).status_code for each in (url, newer)]

    assert answers == [status, 200]
