"""Pages of other origins change nothing, even with requests that need no preflight.

Sources: Fetch Metadata Request Headers, section 2.3; RFC 6454, section 7; RFC 6455, section 10.2.
"""

from typing import Any

import pytest
from fastapi import APIRouter, Request, WebSocket

from .peer import Peer
from .service import Service

PAGE = "https://app.example"
EVIL = "Origin: https://evil.example"
CORS = {"cors": {"origins": f"https://x.example, {PAGE}/"}}
PUBLIC = {"server": {"public_url": "https://Files.example/prefix"}}
UPGRADE = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
]

router = APIRouter()
done: list[str] = []


@router.api_route("/it", methods=["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD"])
async def it(request: Request) -> None:
    done.append(request.method)


@router.websocket("/it")
async def follow(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


async def head(
    service: Service, *fields: str, method: str = "POST", target: str = "/it", host: str = "h:1"
) -> str:
    peer: Peer
    async with service.raw_connection() as peer:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
        await peer.send("\r\n".join(lines).encode())
        return (await peer.read_head()).decode()


Case = tuple[list[str], bool, bool]
#: Settings, fields, whether they may change something, and whether they may open a WebSocket.
CASES: list[tuple[dict[str, Any], list[Case]]] = [
    (
        {},
        [
            # Not a browser.
            ([], True, True),
            # Current browsers.
            (["Sec-Fetch-Site: same-origin", "Origin: http://h:1"], True, True),
            (["Sec-Fetch-Site: none"], True, True),
            (["Sec-Fetch-Site: cross-site", EVIL], False, False),
            (["Sec-Fetch-Site: same-site", "Origin: http://h:2"], False, False),
            (["Sec-Fetch-Site: cross-site", "Origin: http://h:1"], False, False),
            (["Sec-Fetch-Site: cross-site"], False, False),
            (["Sec-Fetch-Site: cross-site", "Origin: null"], False, False),
            (["Sec-Fetch-Site: anything"], False, False),
            (["Sec-Fetch-Site:"], False, False),
            (["Sec-Fetch-Site: same-origin, cross-site"], False, False),
            (["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"], False, False),
            (["Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin"], False, False),
            # A proxy that replaces Host: Sec-Fetch-Site is right, but some WebSockets lack it.
            (["Sec-Fetch-Site: same-origin", EVIL], True, False),
            # Older browsers, and current ones without TLS.
            (["Origin: http://h:1"], True, True),
            (["Origin: HTTP://H.:1"], True, True),
            (["Origin: https://h:1"], True, True),
            (["Origin: http://h:2"], False, False),
            (["Origin: http://h"], False, False),
            (["Origin: http://h:1.evil.example"], False, False),
            (["Origin: http://h:1@evil.example"], False, False),
            (["Origin: http://evil.example@h:1"], False, False),
            (["Origin: h:1"], False, False),
            (["Origin: ://h:1"], False, False),
            (["Origin: null"], False, False),
            (["Origin:"], False, False),
            ([EVIL], False, False),
            ([EVIL, "Origin: http://h:1"], False, False),
            (["Origin: http://h:1", EVIL], False, False),
        ],
    ),
    (
        PUBLIC,
        [
            (["Origin: https://files.example"], True, True),
            (["Origin: https://FILES.example:443"], True, True),
            (["Sec-Fetch-Site: same-origin", "Origin: https://files.example"], True, True),
            (["Origin: https://files.example:8443"], False, False),
            (["Origin: http://files.example"], False, False),
            (["Origin: https://files.example.evil"], False, False),
        ],
    ),
    (
        CORS,
        [
            ([f"Origin: {PAGE}"], True, True),
            (["Sec-Fetch-Site: cross-site", f"Origin: {PAGE}"], True, True),
            (["Sec-Fetch-Site: cross-site", EVIL], False, False),
            (["Sec-Fetch-Site: cross-site"], False, False),
            ([f"Origin: {PAGE}", EVIL], False, False),
        ],
    ),
    (
        {"cors": {"origins": "*"}},
        [
            (["Sec-Fetch-Site: cross-site", EVIL], True, True),
            (["Origin: null"], True, True),
        ],
    ),
]
IDS = ["alone", "public URL", "an allowed origin", "all origins"]


@pytest.mark.bound("9.2")
@pytest.mark.parametrize(("sections", "cases"), CASES[:3], ids=IDS[:3])
async def test_a_foreign_page_changes_nothing(
    serve: Any, sections: dict[str, Any], cases: list[Case]
) -> None:
    service: Service = await serve(router, **sections)
    for fields, may_change, _ in cases:
        done.clear()
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            status = (await head(service, *fields, "Content-Length: 0", method=method))[9:12]
            assert (fields, status) == (fields, "200" if may_change else "403")
        assert len(done) == 4 * may_change


async def test_all_pages_may_if_the_owner_says_so(serve: Any) -> None:
    sections, cases = CASES[3]
    service: Service = await serve(router, **sections)
    for fields, _, _ in cases:
        assert (await head(service, *fields, "Content-Length: 0"))[9:12] == "200"


@pytest.mark.parametrize(("sections", "cases"), CASES, ids=IDS)
async def test_a_foreign_page_opens_no_websocket(
    serve: Any, sections: dict[str, Any], cases: list[Case]
) -> None:
    service: Service = await serve(router, **sections)
    for fields, _, may_open in cases:
        status = (await head(service, *fields, *UPGRADE, method="GET"))[9:12]
        assert (fields, status) == (fields, "101" if may_open else "403")


async def test_what_changes_nothing_is_sent_to_any_page(serve: Any) -> None:
    service: Service = await serve(router)
    for method, status in {"GET": "200", "HEAD": "200", "OPTIONS": "405"}.items():
        told = await head(service, "Sec-Fetch-Site: cross-site", EVIL, method=method)
        assert told[9:12] == status
        assert "access-control-allow-origin" not in told
        assert "cross-origin-resource-policy: same-origin\r\n" in told


@pytest.mark.bound("9.2")
async def test_so_it_is_on_every_route(serve: Any) -> None:
    service: Service = await serve(router)
    for target in ("/nothing", "/docs", "/health/live", "/metrics", "/files"):
        assert (await head(service, EVIL, "Content-Length: 0", target=target))[9:12] == "403"


@pytest.mark.bound("9.2")
async def test_a_refusal_has_an_id_and_reads_no_body(serve: Any) -> None:
    service: Service = await serve(router)
    told = (await head(service, EVIL, "Content-Length: 1000", "Expect: 100-continue")).lower()

    assert told.startswith("http/1.1 403 ")
    assert "\r\nconnection: close\r\n" in told
    assert "\r\nx-request-id: " in told
    assert await service.outcome_of("POST (none)") == "rejected"


@pytest.mark.bound("9.2")
async def test_a_refusal_is_counted_and_says_why(serve: Any) -> None:
    service: Service = await serve(router)
    before = await service.reached("cors.origins")
    async with service.client() as client:
        refused = await client.post("/it", headers={"Origin": "https://evil.example"})

    assert await service.reached("cors.origins") == before + 1
    assert refused.json()["detail"] == "Pages of this origin may not use the service."


async def test_behind_a_proxy_the_page_is_compared_with_the_host_it_tells_of(serve: Any) -> None:
    service: Service = await serve(router, server={"allowed_hosts": "files.example,backend"})
    proxy = ["X-Forwarded-Host: files.example", "X-Forwarded-Proto: https", "Content-Length: 0"]

    for origin, expected in {
        "https://files.example": "200",
        "https://files.example:443": "200",
        "http://files.example": "403",  # A page without TLS can be forged on the way.
        "https://backend": "403",
    }.items():
        told = await head(service, f"Origin: {origin}", *proxy, host="backend")
        assert told[9:12] == expected


async def test_a_preflight_is_answered_as_before(serve: Any) -> None:
    service: Service = await serve(router, **CORS)
    asked = ["Access-Control-Request-Method: POST", "Sec-Fetch-Site: cross-site"]
    allowed = await head(service, f"Origin: {PAGE}", *asked, method="OPTIONS")
    refused = await head(service, EVIL, *asked, method="OPTIONS")

    assert allowed.startswith("HTTP/1.1 200 ")
    assert f"access-control-allow-origin: {PAGE}\r\n" in allowed
    assert refused.startswith("HTTP/1.1 400 ")


async def test_origins_of_the_setting_may_be_written_in_another_way(serve: Any) -> None:
    service: Service = await serve(router, cors={"origins": "HTTPS://App.example:443/"})
    told = await head(service, f"Origin: {PAGE}", "Content-Length: 0")

    assert told.startswith("HTTP/1.1 200 ")
    assert f"access-control-allow-origin: {PAGE}\r\n" in told
