"""Keys: their places in a request, their roles and scopes, and the responses to wrong ones."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.to_thread
import httpx
import pytest

from {{cookiecutter.package_name}}.engine.access import store
from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.store import KeyStore

from ..peer import PATIENCE
from ..service import Service, ServiceProcess
from .keys import headers_of, store_of


@pytest.mark.parametrize(
    "header", ["Authorization: Bearer ", "authorization: bearer  ", "X-API-Key: "]
)
async def test_a_key_is_accepted_in_either_header(service: Service, header: str) -> None:
    name, _, prefix = header.partition(": ")
    key = store_of(service).create("tester", ["metrics:read"])
    async with httpx.AsyncClient(base_url=service.url) as client:
        response = await client.get("/metrics", headers={name: prefix + key})

    assert response.status_code == 200


async def test_two_different_credentials_are_an_error_and_two_equal_ones_are_not(
    service: Service,
) -> None:
    one, other = (store_of(service).create("tester", ["metrics:read"]) for _ in range(2))
    async with httpx.AsyncClient(base_url=service.url) as client:
        statuses = [
            (
                await client.get(
                    "/metrics", headers={"Authorization": f"Bearer {one}", "X-API-Key": second}
                )
            ).status_code
            for second in (one, other)
        ]

    assert statuses == [200, 400]


async def test_a_refusal_says_how_to_authenticate(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url) as client:
        anonymous = await client.get("/metrics")
        wrong = await client.get("/metrics", headers={"X-API-Key": "sk_x"})
        lacking = await client.get("/metrics", headers=headers_of(service, "files:read"))

    assert anonymous.headers["WWW-Authenticate"] == 'Bearer realm="api"'
    assert wrong.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
    assert lacking.headers["WWW-Authenticate"] == (
        'Bearer realm="api", error="insufficient_scope", scope="metrics:read"'
    )
    assert [each.status_code for each in (anonymous, wrong, lacking)] == [401, 401, 403]
    assert all(each.headers["Cache-Control"] == "no-store" for each in (anonymous, wrong, lacking))


async def test_a_role_gives_its_scopes_and_a_scope_a_prefix(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url) as client:
        statuses = [
            (await client.get("/metrics", headers=headers_of(service, grant))).status_code
            for grant in ("monitor", "admin", "metrics:*", "metrics:rea", "metrics", "*")
        ]

    assert statuses == [200, 200, 200, 403, 403, 200]


async def test_wrong_keys_are_counted_and_slowed_while_valid_ones_work(
    serve: Callable[..., Any],
) -> None:
    service = await serve(access={"max_failures": 3})
    key = headers_of(service, "metrics:read")
    async with httpx.AsyncClient(base_url=service.url) as client:
        refused = [
            await client.get("/metrics", headers={"X-API-Key": f"sk_{number}"})
            for number in range(5)
        ]
        allowed = await client.get("/metrics", headers=key)

    assert [each.status_code for each in refused] == [401, 401, 401, 429, 429]
    assert refused[-1].headers["Retry-After"] == "60"
    assert 'access_refused_total{reason="unknown"} 3.0' in allowed.text
    assert 'bounds_reached_total{bound="access.max_failures"} 2.0' in allowed.text


async def test_a_preflight_needs_no_key(serve: Callable[..., Any]) -> None:
    service = await serve(cors={"origins": "https://app.example.com"})
    headers = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    async with httpx.AsyncClient(base_url=service.url) as client:
        allowed = await client.options("/tickets", headers=headers)
        refused = await client.post("/tickets", headers={"Origin": "https://app.example.com"})

    assert allowed.status_code == 200
    assert "authorization" in allowed.headers["Access-Control-Allow-Headers"].lower()
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example.com"


async def test_the_commands_create_list_and_revoke_keys_of_a_running_service(
    tmp_path: Path,
) -> None:
    async with ServiceProcess(tmp_path) as service:
        key = (await command(tmp_path, "create", "one", "monitor", "--owner", "alice")).strip()
        async with service.client() as client:
            client.headers["X-API-Key"] = key
            allowed = await client.get("/metrics")
            listed = await command(tmp_path, "list")
            await command(tmp_path, "revoke", "one")
            async with asyncio.timeout(PATIENCE):
                while (refused := await client.get("/metrics")).status_code == 200:
                    pass

    assert allowed.status_code == 200
    assert "one: alice, monitor, valid" in listed
    assert key not in listed
    assert refused.json()["detail"] == "The key was revoked."
    assert key not in "".join(service.log)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["create", "a b", "reader"], "'a b': letters, digits"),
        (["create", "one", "nobody"], "'nobody' is neither a scope nor one of the roles admin"),
        (["create", "one", "files:read admin"], "'files:read admin': a scope has no spaces"),
        (["create", "one", "reader", "--days", "nan"], "--days nan: more than 0, and at most"),
        (["create", "one", "reader", "--days", "1e9"], "--days 1e+09: more than 0, and at most"),
        (["revoke", "unknown"], "There is no key with the name unknown"),
    ],
)
async def test_a_wrong_command_ends_with_one_line(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    assert (await command(tmp_path, *arguments, code=1)).startswith(reason)


async def test_a_command_creates_nothing_but_what_it_uses(tmp_path: Path) -> None:
    await command(tmp_path, name="routes")
    routes = {*tmp_path.rglob("*")}
    await command(tmp_path, "create", "one", "reader")

    assert routes == set()
    assert {*tmp_path.rglob("*")} == {tmp_path / "data", tmp_path / "data/access.sqlite3"}


async def test_the_routes_are_listed_with_what_they_need(tmp_path: Path) -> None:
    lines = (await command(tmp_path, name="routes")).splitlines()

    assert {"GET /health/live: public", "GET /metrics: metrics:read", "GET /access: any key"} < {
        *lines
    }
    assert len(lines) == len(set(lines)) > 10


def test_a_slower_thread_does_not_undo_a_revocation(tmp_path: Path) -> None:
    """Two threads read the keys: one before the revocation, and one after it."""
    begun, continued = threading.Event(), threading.Event()

    def scopes_of(grants: Iterable[str]) -> frozenset[str]:
        if threading.current_thread() is slow:
            begun.set()
            continued.wait(0.2)
        return frozenset(grants)

    slow = threading.Thread(target=lambda: keys.refresh())
    with (
        closing(KeyStore(LocalDatabase(tmp_path / "access.sqlite3"), frozenset)) as other,
        closing(KeyStore(LocalDatabase(tmp_path / "access.sqlite3"), scopes_of)) as keys,
    ):
        other.create("alice", ["files:read"], "one")
        slow.start()
        begun.wait(PATIENCE)
        other.revoke("one")
        keys.refresh()
        continued.set()
        slow.join()
        keys.refresh()
        assert [key.flaw() for key in keys.keys.values()] == ["revoked"]


def test_the_database_is_not_closed_while_another_thread_reads_it(tmp_path: Path) -> None:
    begun, continued = threading.Event(), threading.Event()
    steps: list[str] = []

    def scopes_of(grants: Iterable[str]) -> frozenset[str]:
        if threading.current_thread() is reading:
            begun.set()
            continued.wait(PATIENCE)
            steps.append("read")
        return frozenset(grants)

    def close() -> None:
        keys.close()
        steps.append("closed")

    keys = KeyStore(LocalDatabase(tmp_path / "access.sqlite3"), scopes_of)
    reading, closing_ = threading.Thread(target=keys.reread), threading.Thread(target=close)
    keys.create("alice", ["files:read"])
    reading.start()
    begun.wait(PATIENCE)
    closing_.start()
    closing_.join(0.1)
    continued.set()
    reading.join()
    closing_.join()

    assert steps == ["read", "closed"]


def test_new_secrets_replace_old_ones_also_after_the_clock_went_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(KeyStore(LocalDatabase(tmp_path / "access.sqlite3"), frozenset)) as keys:
        keys.rotate(60)
        monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: 1000.0))
        keys.rotate(60)
        kept = list(keys.secrets)
        keys.rotate(0)

        assert len(kept) == 2
        assert len(keys.secrets) == 1
        assert not {*kept} & {*keys.secrets}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_restored_database_is_private_again(tmp_path: Path) -> None:
    path = tmp_path / "access.sqlite3"
    KeyStore(LocalDatabase(path), frozenset).close()
    path.chmod(0o644)

    with closing(KeyStore(LocalDatabase(path), frozenset)) as keys:
        keys.rotate(60)
        modes = {each.stat().st_mode & 0o777 for each in tmp_path.glob("access.sqlite3*")}

    assert modes == {0o600}


async def test_a_name_is_used_once(tmp_path: Path) -> None:
    await command(tmp_path, "create", "one", "reader")

    assert "there is a key with the name one" in await command(
        tmp_path, "create", "one", "reader", code=1
    )


async def command(directory: Path, *arguments: str, name: str = "keys", code: int = 0) -> str:
    """Run `serve keys`, or another command, for a service, and return its output."""
    run = partial(
        subprocess.run,
        [sys.executable, "-m", "{{cookiecutter.package_name}}", name, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    ended = await anyio.to_thread.run_sync(run)
    assert ended.returncode == code, ended.stderr
    return ended.stdout or ended.stderr
