"""Tickets: one request by a client that cannot send headers."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.access import store
from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.store import KeyStore
from {{cookiecutter.package_name}}.engine.testing import client_of

from .. import processes
from ..service import Service, ServiceProcess

#: A path with a scope, in every project.
PATH, SCOPE = "/metrics", "metrics:read"
RACERS = 50


async def ticket_of(client: httpx.AsyncClient, path: str = PATH, method: str = "GET") -> str:
    response = await client.post("/tickets", json={"path": path, "method": method})
    assert response.status_code == 201, response.text
    ticket: str = response.json()["ticket"]
    return ticket


@pytest.fixture
async def anonymous(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as client:
        del client.headers["Authorization"]
        yield client


async def test_a_ticket_lends_the_scopes_of_its_key_to_one_request(
    service: Service, anonymous: httpx.AsyncClient
) -> None:
    async with service.client(SCOPE) as reader, service.client("other:read") as other:
        url = f"{PATH}?ticket={await ticket_of(reader)}"
        statuses = [(await anonymous.get(url)).status_code for _ in range(3)]
        without_scope = await anonymous.get(f"{PATH}?ticket={await ticket_of(other)}")

    assert statuses == [200, 401, 401]
    assert without_scope.status_code == 403


async def test_a_ticket_is_for_one_method_and_path(
    service: Service, anonymous: httpx.AsyncClient
) -> None:
    async with service.client() as client:
        tickets = [
            await ticket_of(client, "/docs"),
            await ticket_of(client, f"{PATH}/"),
            await ticket_of(client, PATH, "HEAD"),
            "tk_unknown",
        ]
    for ticket in tickets:
        response = await anonymous.get(f"{PATH}?ticket={ticket}")
        assert response.status_code == 401
        assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


async def test_a_ticket_gets_no_other_ticket(
    service: Service, anonymous: httpx.AsyncClient
) -> None:
    wanted = {"path": PATH}
    assert (await anonymous.post("/tickets", json=wanted)).status_code == 401
    async with service.client() as client:
        own = await client.post("/tickets", json={"path": "/tickets", "method": "POST"})
    assert own.status_code == 403


async def test_a_ticket_is_valid_where_others_have_sent_wrong_keys(
    serve: Callable[..., Any],
) -> None:
    service = await serve(access={"max_failures": 2})
    async with service.client() as client, client_of(service.url) as others:
        wrong = {"X-API-Key": "sk_wrong"}
        statuses = [(await others.get(PATH, headers=wrong)).status_code for _ in range(3)]
        valid = await others.get(f"{PATH}?ticket={await ticket_of(client)}")
        used = await others.get(f"{PATH}?ticket=tk_unknown")

    assert statuses == [401, 401, 429]
    assert (valid.status_code, used.status_code) == (200, 429)


async def test_a_ticket_expires(
    service: Service, anonymous: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service.client() as client:
        ticket = await ticket_of(client)
    later = time.time() + 31
    monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: later))
    assert (await anonymous.get(f"{PATH}?ticket={ticket}")).status_code == 401


async def test_the_ticket_of_a_revoked_key_is_refused(
    service: Service, anonymous: httpx.AsyncClient
) -> None:
    keys = service.app.state.authenticator.store
    async with service.client() as client:
        key = keys.create("alice", ("admin",), "phone")
        client.headers["Authorization"] = f"Bearer {key}"
        ticket = await ticket_of(client)
    keys.revoke("phone")

    assert (await anonymous.get(f"{PATH}?ticket={ticket}")).status_code == 401


async def test_two_credentials_are_refused(service: Service) -> None:
    async with service.client() as client:
        response = await client.get(f"{PATH}?ticket={await ticket_of(client)}")

    assert response.status_code == 400


async def test_the_route_does_not_see_the_ticket(
    service: Service, anonymous: httpx.AsyncClient
) -> None:
    @service.app.get("/query")
    async def query(ticket: str = "", page: str = "") -> list[str]:
        return [ticket, page]

    async with service.client() as client:
        url = f"/query?ticket={await ticket_of(client, '/query')}&page=2"
        own = (await client.get("/query?ticket=of-a-concert")).json()

    assert (await anonymous.get(url)).json() == ["", "2"]
    assert own == ["of-a-concert", ""]  # A parameter of the owner's route.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "processes.py").write_bytes(Path(processes.__file__).read_bytes())
    return tmp_path


async def race(url: str, key: str) -> Counter[int]:
    """Send one ticket in many requests at the same time; return how often each status came."""
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {"base_url": url, "timeout": 30}
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(**options)) for _ in range(RACERS)
        ]
        # Every connection is open before the race, so that both workers have some of them.
        await asyncio.gather(*(client.get("/health/live") for client in clients))
        clients[0].headers["Authorization"] = f"Bearer {key}"
        ticket = await ticket_of(clients[0])
        del clients[0].headers["Authorization"]
        responses = await asyncio.gather(
            *(client.get(f"{PATH}?ticket={ticket}") for client in clients)
        )
    return Counter(response.status_code for response in responses)


@pytest.mark.slow
async def test_exactly_one_of_many_requests_on_two_workers_wins_a_ticket(folder: Path) -> None:
    database = folder / "access.sqlite3"
    keys = KeyStore(LocalDatabase(database), frozenset)
    secret = keys.create("alice", (SCOPE,))
    keys.close()
    settings = {
        "WORKERS": "2",
        "ACCESS__DATABASE": str(database),
        "ACCESS__MAX_FAILURES": "1000",
    }
    async with ServiceProcess(folder, "-m", "processes", **settings) as process:
        for _ in range(2):
            assert await race(process.url, secret) == {200: 1, 401: RACERS - 1}
        process.terminate()
        await process.exit_code()

    log = "".join(process.log)
    assert f'"path":"{PATH}"' in log
    assert secret not in log
    assert "tk_" not in log


async def test_tickets_and_keys_are_not_logged(
    service: Service, anonymous: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with service.client() as client:
        key, ticket = client.headers["Authorization"], await ticket_of(client)
        await anonymous.get(f"{PATH}?ticket={ticket}")
        await anonymous.get(f"{PATH}?ticket={ticket}&ticket={ticket}x")
        await anonymous.get(f"/nowhere/{ticket}")

    log = [each.getMessage() for each in caplog.records if each.name != "httpx"]
    assert any(PATH in line for line in log)
    for secret in (ticket, key.removeprefix("Bearer ")):
        assert not any(secret in line for line in log)
