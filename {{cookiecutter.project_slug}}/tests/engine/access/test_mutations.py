"""Nothing that is almost a valid credential is accepted, and nothing breaks the service."""

import random
import string
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import APIRouter
from hypothesis import HealthCheck, given, settings, strategies as st

from {{cookiecutter.package_name}}.engine.access.links import principal_of_link, sign

from ..service import SOAK, Service
from .keys import store_of

#: Credentials per kind: 10,000 in a soak.
COUNT = 170 * SOAK
#: Characters that a header or a query may have.
CHARACTERS = string.ascii_letters + string.digits + "-_.~%+= äÿ"


def mutated(secret: str, number: int) -> Iterator[str]:
    """Yield texts that differ from a secret a little."""
    chance = random.Random(number)
    while True:
        text = list(secret)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(text) or 1)
            match chance.randrange(5):
                case 0:
                    text[place : place + 1] = chance.choice(CHARACTERS)
                case 1:
                    text.insert(place, chance.choice(CHARACTERS))
                case 2:
                    del text[place : place + chance.randint(1, 8)]
                case 3:
                    text[place : place + 1] = "".join(text[place : place + 1]).swapcase()
                case 4:
                    text += chance.choices(text or "x", k=chance.randint(1, 40))
        if (changed := "".join(text).strip()) != secret and changed:
            yield changed


@pytest.fixture
async def service(serve: Callable[..., Any]) -> Service:
    router = APIRouter()

    @router.get("/own/undecided")
    async def undecided() -> str:
        return "undecided"

    started: Service = await serve(router, access={"max_failures": 10**9})
    return started


async def statuses(
    service: Service, secret: str, send: Callable[[httpx.AsyncClient, str], Any]
) -> set[int]:
    found: set[int] = set()
    wrong = mutated(secret, 1)
    async with httpx.AsyncClient(base_url=service.url) as client:
        for _ in range(COUNT):
            found.add((await send(client, next(wrong))).status_code)
    return found


async def test_mutated_keys_are_refused(service: Service) -> None:
    secret = store_of(service).create("tester", ["admin"])

    async def send(client: httpx.AsyncClient, key: str) -> httpx.Response:
        return await client.get("/own/undecided", headers={b"X-API-Key": key.encode("latin-1")})

    assert await statuses(service, secret, send) == {401}


@pytest.mark.parametrize("name", ["ticket", "signature"])
async def test_mutated_tickets_and_links_are_refused(service: Service, name: str) -> None:
    store = store_of(service)
    key = store.create("tester", ["admin"])
    async with httpx.AsyncClient(base_url=service.url, headers={"X-API-Key": key}) as client:
        ticket = (await client.post("/tickets", json={"path": "/own/undecided"})).json()["ticket"]
    signature = sign(store.secrets, "/own/undecided", "tester", 60)
    secret = {"ticket": ticket, "signature": signature}[name]

    async def send(client: httpx.AsyncClient, changed: str) -> httpx.Response:
        return await client.get(f"/own/undecided?{name}={quote(changed)}")

    assert await statuses(service, secret, send) == {401}
    async with httpx.AsyncClient(base_url=service.url) as client:
        valid = await client.get("/own/undecided", params={name: secret})
    assert valid.status_code == 200


@given(signature=st.text(), path=st.text())
@settings(max_examples=100 * SOAK, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_is_no_signature(signature: str, path: str) -> None:
    keys = {"one": b"1" * 32}

    assert principal_of_link(keys, signature, path) is None
    assert principal_of_link(keys, sign(keys, "/a", "tester", 60), path) is None


def test_a_link_is_for_one_path_one_time_and_the_secrets_of_the_service() -> None:
    keys = {"old": b"1" * 32, "new": b"2" * 32}
    signature = sign(keys, "/a", "tester", 60)

    principal = principal_of_link(keys, signature, "/a")
    assert principal is not None
    assert (principal.id, principal.scopes) == ("tester", frozenset({"files:read"}))
    assert principal_of_link(keys, signature, "/b") is None
    assert principal_of_link(keys, sign(keys, "/a", "tester", -1), "/a") is None
    assert principal_of_link({"old": keys["old"]}, signature, "/a") is None
    assert principal_of_link({"new": b"3" * 32}, signature, "/a") is None
