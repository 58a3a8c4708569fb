"""Host: the names of the service; responses under other names would belong to their pages.

Sources: RFC 9110, sections 4.2.3, 7.2 and 15.5.20; RFC 9112, section 3.2; RFC 6761, section 6.3.
"""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import APIRouter, Request, WebSocket

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.observability import log
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.engine.service import Service as WithoutParts
from {{cookiecutter.package_name}}.settings import Settings

from .peer import Peer
from .service import Service

router = APIRouter()
done: list[str] = []


@pytest.fixture(autouse=True)
def _other_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the files of `serve` out of the folder of the project."""
    monkeypatch.chdir(tmp_path)


@router.get("/it")
@router.delete("/it")
@router.post("/it")
async def it(request: Request) -> str:
    done.append(request.method)
    return str(request.base_url)


@router.websocket("/it")
async def follow(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


async def status(
    service: Service, *fields: str, target: str = "/it", method: str = "GET", version: str = "1.1"
) -> str:
    """Return the status of a request with these fields."""
    return (await head(service, *fields, target=target, method=method, version=version))[9:12]


async def head(
    service: Service, *fields: str, target: str = "/it", method: str = "GET", version: str = "1.1"
) -> str:
    peer: Peer
    async with service.raw_connection() as peer:
        lines = [f"{method} {target} HTTP/{version}", *fields, "", ""]
        await peer.send("\r\n".join(lines).encode())
        return (await peer.read_head()).decode()


#: Addresses that lead to this machine on Linux, whichever a server listens on.
EVERYWHERE = "0.0.0.0"  # noqa: S104
#: The name of this machine.
LOCAL = [
    "localhost", "LocalHost:1", "localhost.", "localhost.:8000", "files.localhost:8000",
    "127.0.0.1", "127.0.0.1:8000", "127.0.0.1.", "127.8.9.10", "[::1]", "[::1]:8000",
    "[0:0:0:0:0:0:0:1]:9", "[::ffff:127.0.0.1]",
]  # fmt: skip
FOREIGN = [
    "evil.example", "EVIL.example:8000", "evil.example.", "localhost.evil.example",
    "127.0.0.1.evil.example", "127.0.0.1.evil", "evillocalhost", "localhost..",
    "localhost-evil.example", "xn--lcalhost-q4a", "2130706433", "0x7f000001", "0x7f.1", "127.1",
    "0177.0.0.1", "127.0.0.01", EVERYWHERE, f"{EVERYWHERE}:8000", "[::]", "[::ffff:10.0.0.1]",
    "[1::1]", "10.0.0.1", "128.0.0.1", "192.168.1.5:8000", "localhost%2eevil", "local_host",
    "testserver",
]  # fmt: skip


async def test_the_names_of_this_machine_are_the_services(serve: Any) -> None:
    service: Service = await serve(router)
    told = {host: await status(service, f"Host: {host}") for host in LOCAL}
    assert told == dict.fromkeys(LOCAL, "200")


@pytest.mark.bound("9.1")
async def test_another_name_or_address_is_refused(serve: Any) -> None:
    service: Service = await serve(router)
    told = {host: await status(service, f"Host: {host}") for host in FOREIGN}
    assert told == dict.fromkeys(FOREIGN, "421")
    assert await service.outcome_of("GET (none)") == "rejected"
    assert done == []


@pytest.mark.bound("9.1")
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "TRACE"])
async def test_so_it_is_on_every_route(serve: Any, method: str) -> None:
    service: Service = await serve(router)
    for target in ("/it", "/nothing", "/docs", "/openapi.json", "/metrics", "/"):
        assert await status(service, "Host: evil.example", method=method, target=target) == "421"
    assert done == []


@pytest.mark.bound("9.1")
async def test_a_refusal_has_an_id_and_reads_no_body(serve: Any) -> None:
    service: Service = await serve(router)
    fields = ["Host: evil.example", "Content-Length: 1000", "Expect: 100-continue"]
    told = (await head(service, *fields, method="POST")).lower()

    assert told.startswith("http/1.1 421 ")
    assert "\r\nconnection: close\r\n" in told
    assert "\r\nx-request-id: " in told
    assert "\r\ncache-control: no-store\r\n" in told


@pytest.mark.bound("9.1")
async def test_a_refusal_is_counted_and_says_why(serve: Any) -> None:
    service: Service = await serve(router)
    before = await service.reached("server.allowed_hosts")
    async with service.client() as client:
        refused = await client.get("/it", headers={"Host": "evil.example"})

    assert await service.reached("server.allowed_hosts") == before + 1
    assert refused.json()["detail"] == "Host is not a name of the service."


@pytest.mark.parametrize(
    ("target", "fields", "expected"),
    [
        pytest.param("http://evil.example/it", ["Host: localhost"], "421",
                     marks=pytest.mark.bound("9.1")),
        pytest.param("HTTP://EVIL.example:80/it", ["Host: localhost"], "421",
                     marks=pytest.mark.bound("9.1")),
        # Not a browser: the target has the host, and Host is ignored (RFC 9112, section 3.2.2).
        ("http://localhost/it", ["Host: evil.example"], "200"),
        ("http://localhost@evil.example/it", ["Host: localhost"], "400"),
        ("/it", ["Host: localhost", "Host: evil.example"], "400"),
        ("/it", ["Host: localhost", "Host: localhost"], "400"),
        ("/it", ["Host: localhost@evil.example"], "400"),
        ("/it", ["Host: evil.example@localhost"], "400"),
        ("/it", ["Host: localhost:80:evil.example"], "400"),
        ("/it", ["Host: localhost/.evil.example"], "400"),
        ("/it", ["Host: evil.example/.localhost"], "400"),
        ("/it", ["Host:"], "400"),
    ],
)  # fmt: skip
async def test_no_other_place_has_a_host_of_its_own(
    serve: Any, target: str, fields: list[str], expected: str
) -> None:
    assert await status(await serve(router), *fields, target=target) == expected


async def test_without_a_host_it_is_no_browser(serve: Any) -> None:
    assert await status(await serve(router), version="1.0") == "200"


@pytest.mark.parametrize("target", ["/health/live", "/health/ready"])
@pytest.mark.parametrize("host", ["10.1.2.3:8000", "evil.example"])
async def test_probes_may_use_any_name(service: Service, target: str, host: str) -> None:
    assert await status(service, f"Host: {host}", target=target) == "200"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.1.2.3:8000", "200"),
        ("[fd00::1]", "200"),
        pytest.param("pod.evil.example", "421", marks=pytest.mark.bound("9.1")),
        pytest.param("10.1.2.3.example", "421", marks=pytest.mark.bound("9.1")),
    ],
)
async def test_metrics_may_be_asked_of_any_address(
    service: Service, host: str, expected: str
) -> None:
    assert await status(service, f"Host: {host}", target="/metrics") == expected


@pytest.mark.parametrize(
    ("server", "host", "expected"),
    [
        ({"allowed_hosts": "a.example, *.pods.example"}, "A.example:9", "200"),
        ({"allowed_hosts": "a.example, *.pods.example"}, "x.y.pods.example", "200"),
        ({"allowed_hosts": "a.example, *.pods.example"}, "localhost", "200"),
        ({"allowed_hosts": "a.example, *.pods.example"}, "pods.example", "421"),
        ({"allowed_hosts": "a.example, *.pods.example"}, "evilpods.example", "421"),
        ({"allowed_hosts": "a.example, *.pods.example"}, "b.a.example", "421"),
        ({"allowed_hosts": "a.example:8443."}, "a.example.evil", "421"),
        ({"allowed_hosts": "A.example:8443"}, "a.example", "200"),
        ({"allowed_hosts": "2001:db8::7,[2001:db8::8]"}, "[2001:DB8:0::7]:1", "200"),
        ({"allowed_hosts": "2001:db8::7,[2001:db8::8]"}, "[2001:db8::8]", "200"),
        ({"allowed_hosts": "2001:db8::7,[2001:db8::8]"}, "[2001:db8::9]", "421"),
        ({"allowed_hosts": "*"}, "anything.example", "200"),
        ({"allowed_hosts": " , "}, "evil.example", "421"),
        ({"public_url": "https://Files.example:8443/prefix"}, "files.example", "200"),
        ({"public_url": "https://files.example"}, "evil.files.example", "421"),
        ({"host": "10.1.2.3"}, "10.1.2.3:8000", "200"),
        ({"host": "files.internal"}, "files.internal", "200"),
        ({"host": "2001:db8::7"}, "[2001:db8::7]", "200"),
        ({"host": EVERYWHERE}, EVERYWHERE, "421"),
        ({"host": "::"}, "[::]", "421"),
    ],
)
async def test_the_settings_add_names(
    serve: Any, server: dict[str, str], host: str, expected: str
) -> None:
    assert await status(await serve(router, server=server), f"Host: {host}") == expected


@pytest.mark.bound("9.1")
@pytest.mark.parametrize(
    "fields",
    [
        # A page on this machine can send them, from the address of a local proxy.
        ["Host: evil.example", "X-Forwarded-Host: localhost"],
        ["Host: evil.example", "Forwarded: host=localhost"],
        ["Host: localhost", "X-Forwarded-Host: evil.example"],
        ["Host: localhost", "X-Forwarded-Host: localhost, evil.example"],
        ["Host: localhost", "Forwarded: host=localhost, host=evil.example"],
    ],
)
async def test_a_trusted_proxy_cannot_make_another_name_ours(serve: Any, fields: list[str]) -> None:
    assert await status(await serve(router), *fields) == "421"
    assert done == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["Host: localhost", "X-Forwarded-Host: evil.example"], "200"),
        pytest.param(["Host: evil.example", "X-Forwarded-Host: localhost"], "421",
                     marks=pytest.mark.bound("9.1")),
        pytest.param(["Host: evil.example", "Forwarded: host=localhost"], "421",
                     marks=pytest.mark.bound("9.1")),
    ],
)  # fmt: skip
async def test_a_stranger_tells_of_no_host(serve: Any, fields: list[str], expected: str) -> None:
    service: Service = await serve(router, server={"trusted_proxies": "192.0.2.1"})
    assert await status(service, *fields) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", "101"),
        pytest.param("evil.example", "421", marks=pytest.mark.bound("9.1")),
    ],
)
async def test_a_websocket_is_opened_by_a_known_name_only(
    serve: Any, host: str, expected: str
) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    upgrade = ["Upgrade: websocket", "Connection: Upgrade", key, "Sec-WebSocket-Version: 13"]
    assert await status(await serve(router), f"Host: {host}", *upgrade) == expected


async def test_a_page_of_an_allowed_origin_is_told_of_a_wrong_name(serve: Any) -> None:
    page = "https://app.example"
    service: Service = await serve(router, cors={"origins": page})
    told = await head(service, "Host: evil.example", f"Origin: {page}")

    assert told.startswith("HTTP/1.1 421 ")
    assert f"access-control-allow-origin: {page}\r\n" in told


@pytest.mark.parametrize(
    ("host", "names", "warned"),
    [
        ("127.0.0.1", {}, False),
        ("::1", {}, False),
        ("localhost", {}, False),
        (EVERYWHERE, {}, True),
        ("::", {}, True),
        ("10.1.2.3", {}, True),
        (EVERYWHERE, {"APP_SERVER__ALLOWED_HOSTS": "files.example"}, False),
        (EVERYWHERE, {"APP_SERVER__PUBLIC_URL": "https://files.example"}, False),
    ],
)
def test_serve_warns_when_others_can_reach_it_by_no_known_name(
    monkeypatch: pytest.MonkeyPatch, host: str, names: dict[str, str], warned: bool
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "configure", lambda settings: None)
    monkeypatch.setattr(log, "log", SimpleNamespace(warning=lambda line, **_: lines.append(line)))
    monkeypatch.setattr(uvicorn.Server, "run", lambda server: setattr(server, "started", True))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    names = {"APP_SERVER__ALLOW_ANONYMOUS": "true", **names}
    for name, value in {"APP_SERVER__HOST": host, **names}.items():
        monkeypatch.setenv(name, value)

    cli.main(create_app, Settings, [])

    assert ["APP_SERVER__ALLOWED_HOSTS" in line for line in lines] == [True] * warned


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "10.1.2.3"])
def test_a_service_without_access_control_refuses_other_machines(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("APP_SERVER__HOST", host)

    with pytest.raises(SystemExit, match="APP_SERVER__ALLOW_ANONYMOUS=true"):
        cli.main(WithoutParts, Settings, [])
