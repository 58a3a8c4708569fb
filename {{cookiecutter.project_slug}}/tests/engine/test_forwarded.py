"""Proxies: the client, the scheme and the host are those that a trusted proxy reports."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Request, WebSocket
from pydantic import ValidationError

from {{cookiecutter.package_name}}.engine.settings import ServerSettings

from .peer import PATIENCE
from .service import Service, ServiceProcess, make_settings

#: The peer of every test, another proxy, and an unknown address.
HERE, BEFORE, STRANGER = "127.0.0.1", "192.0.2.7", "203.0.113.9"
KNOWN = "test,h,a.example,[2001:db8::1]"
TRUSTED = {"trusted_proxies": f"{HERE},{BEFORE},2001:db8::/32", "allowed_hosts": KNOWN}
DEFAULT = ServerSettings().trusted_proxies

router = APIRouter()


@router.get("/told")
async def told(request: Request) -> list[str | None]:
    return [str(request.base_url), request.client.host if request.client else None]


@router.websocket("/told")
async def told_by_websocket(websocket: WebSocket) -> None:
    client = websocket.client.host if websocket.client else None
    await websocket.accept()
    await websocket.send_json([str(websocket.base_url), client])
    await websocket.close()


async def ask(service: Service, *fields: str) -> list[str | None]:
    """Return the service's own base URL, and the address of its client."""
    async with service.client() as client:
        headers = [(name, value) for name, _, value in (field.partition(": ") for field in fields)]
        answer: list[str | None] = (await client.get("/told", headers=headers)).json()
    return answer


def host(name: str) -> str:
    return f"X-Forwarded-Host: {name}"


def forwarded(value: str) -> str:
    return f"Forwarded: {value}"


@pytest.mark.fault("F13")
@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ([host("a.example")], "http://a.example/"),
        ([host("a.example:8443"), "X-Forwarded-Proto: https"], "https://a.example:8443/"),
        ([host("[2001:db8::1]:80")], "http://[2001:db8::1]:80/"),
        ([host("a.example"), "X-Forwarded-Port: 8443"], "http://a.example/"),
        ([host("evil.example, a.example")], "http://a.example/"),
        ([host("evil.example"), host("a.example")], "http://a.example/"),
        ([host("evil.example,a.example,b.example"), f"X-Forwarded-For: {STRANGER}, {BEFORE}"],
         "http://a.example/"),
        ([host("a.example"), f"X-Forwarded-For: {STRANGER}, {BEFORE}"], "http://a.example/"),
        (["X-Forwarded-Proto: http, https"], "https://h:1/"),
        ([forwarded("host=a.example")], "http://a.example/"),
        ([forwarded('Host="a.example:8443" ; PROTO=HTTPS')], "https://a.example:8443/"),
        ([forwarded("host=a.example:8443;proto=https")], "https://a.example:8443/"),
        ([forwarded('host="\\a.example"')], "http://a.example/"),
        ([forwarded("host=evil.example, host=a.example")], "http://a.example/"),
        ([forwarded("host=evil.example"), forwarded("host=a.example")], "http://a.example/"),
        ([forwarded(f"host=evil.example, for={STRANGER};host=a.example, for={BEFORE};host=b")],
         "http://a.example/"),
        ([forwarded(f'for={STRANGER}, for="[2001:db8::1]:9";proto=https;host=a.example')],
         "https://a.example/"),
        ([forwarded('for="a, b;host=evil.example";host=a.example,,')], "http://a.example/"),
    ],
)  # fmt: skip
async def test_the_host_is_the_one_that_the_client_has_asked_for(
    serve: Any, fields: list[str], url: str
) -> None:
    service: Service = await serve(router, server=TRUSTED)
    assert (await ask(service, "Host: h:1", *fields))[0] == url


@pytest.mark.parametrize(
    "field",
    [
        host(""),
        host("a.example/path"),
        host("a.example#"),
        host("a b"),
        host("user@a.example"),
        host("https://a.example"),
        host("a.example,"),
        forwarded("host=a.example/path"),
        forwarded('host="user@a.example"'),
        forwarded('host="a.example'),
        forwarded("host"),
        forwarded("host=a.example; =x"),
        forwarded("proto=gopher"),
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Port: 8443",
    ],
)
async def test_what_is_no_host_or_scheme_is_ignored(serve: Any, field: str) -> None:
    service: Service = await serve(router, server=TRUSTED)
    assert await ask(service, "Host: h:1", field) == ["http://h:1/", HERE]


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        pytest.param([forwarded(f"for={STRANGER}")], STRANGER, marks=pytest.mark.fault("F13")),
        pytest.param(
            [forwarded(f'for=evil, for="{STRANGER}:4711", for={BEFORE}')],
            STRANGER,
            marks=pytest.mark.fault("F13"),
        ),
        pytest.param(
            [forwarded('for="[2001:DB9::1]:4711"')], "2001:DB9::1", marks=pytest.mark.fault("F13")
        ),
        ([forwarded("proto=https")], HERE),
        ([f"X-Forwarded-For: 198.51.100.1, {STRANGER}, {BEFORE}"], STRANGER),
        # A proxy that sets only the other fields passes on those of the client.
        ([f"X-Forwarded-For: {STRANGER}", forwarded("for=198.51.100.1")], STRANGER),
    ],
)
async def test_the_client_is_the_last_address_that_is_no_trusted_proxy(
    serve: Any, fields: list[str], client: str
) -> None:
    service: Service = await serve(router, server=TRUSTED)
    assert (await ask(service, *fields))[1] == client


async def test_forwarded_is_ignored_beside_the_other_fields(serve: Any) -> None:
    service: Service = await serve(router, server=TRUSTED)
    fields = ["Host: h:1", "X-Forwarded-Proto: https", forwarded("host=evil.example;proto=http")]
    assert (await ask(service, *fields))[0] == "https://h:1/"


@pytest.mark.parametrize("trusted", [BEFORE, "192.0.2.0/24", "::1"])
@pytest.mark.parametrize(
    "fields",
    [
        [host("evil.example"), "X-Forwarded-Proto: https", f"X-Forwarded-For: {BEFORE}"],
        [forwarded(f"for={BEFORE};host=evil.example;proto=https")],
    ],
)
async def test_a_stranger_is_not_believed(serve: Any, trusted: str, fields: list[str]) -> None:
    service: Service = await serve(router, server={"trusted_proxies": trusted})
    assert await ask(service, "Host: h:1", *fields) == ["http://h:1/", HERE]


@pytest.mark.fault("G42")
async def test_by_default_no_peer_is_believed(serve: Any) -> None:
    service: Service = await serve(router, server={"trusted_proxies": DEFAULT})
    reported = [host("a.example"), "X-Forwarded-Proto: https", f"X-Forwarded-For: {STRANGER}"]
    for fields in (reported, [forwarded(f"for={STRANGER};host=a.example;proto=https")]):
        assert await ask(service, "Host: h:1", *fields) == ["http://h:1/", HERE]


@pytest.mark.fault("G42")
@pytest.mark.parametrize("value", ["localhost", "10.0.0.1/8", "127.0.0.1;::1", "*,127.0.0.1"])
def test_what_is_no_address_is_no_trusted_proxy(value: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        make_settings(server={"trusted_proxies": value})


@pytest.mark.fault("F13")
async def test_with_all_trusted_the_first_of_each_list_is_meant(serve: Any) -> None:
    service: Service = await serve(router, server={"trusted_proxies": "*", "allowed_hosts": KNOWN})
    fields = [host("a.example, b.example"), f"X-Forwarded-For: {STRANGER}, 198.51.100.1"]
    assert await ask(service, *fields) == ["http://a.example/", STRANGER]


@pytest.mark.fault("F13")
@pytest.mark.parametrize(
    "fields",
    [
        [host("a.example"), "X-Forwarded-Proto: https", f"X-Forwarded-For: {STRANGER}"],
        [forwarded(f"for={STRANGER};host=a.example;proto=https")],
    ],
)
async def test_it_holds_for_websockets(serve: Any, fields: list[str]) -> None:
    service: Service = await serve(router, server=TRUSTED)
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    upgrade = ["Upgrade: websocket", "Connection: Upgrade", key, "Sec-WebSocket-Version: 13"]
    async with service.raw_connection() as peer, asyncio.timeout(PATIENCE):
        await peer.get("/told", *upgrade, *fields)
        await peer.read_head()
        message = await peer.read_until(b"]")

    assert json.loads(message[2:]) == ["wss://a.example/", STRANGER]


async def test_a_huge_field_is_refused(serve: Any) -> None:
    service: Service = await serve(router, server=TRUSTED)
    for value in ("a" + " " * 60_000 + "x", "a=b," * 15_000 + "=", '"' + "\\x" * 30_000):
        async with service.client() as client:
            response = await client.get("/told", headers={"Forwarded": value})
        assert response.status_code == 431


@pytest.mark.fault("F13")
@pytest.mark.slow
async def test_serve_gives_out_addresses_of_the_host_that_was_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("{{cookiecutter.package_name}}.engine.upload")
    fields = {"X-Forwarded-Host": "a.example", "X-Forwarded-Proto": "https"}
    process = ServiceProcess(tmp_path, SERVER__ALLOWED_HOSTS="a.example")
    async with process, process.client() as client:
        answer = await client.post("/files", content=b"x", headers=fields)

    assert answer.headers["location"].startswith("https://a.example/files/")
    assert answer.json()["url"] == answer.headers["location"]
