"""The edge: CORS, the headers that restrict browsers, and 405."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from {{cookiecutter.package_name}}.engine.kernel import Admission, RequestBody

from .service import Service

PAGE = "https://app.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-Any"}
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SAFETY = {
    "x-content-type-options": "nosniff",
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}

router = APIRouter()


@router.get("/crash")
async def crash() -> None:
    raise ValueError


@router.get("/typed")
async def typed(number: Annotated[int, Query()]) -> int:
    return number


@router.post("/typed")
@router.post("/body")
async def read_body(request: Request) -> int:
    return len(await RequestBody(request, limit=10).read())


@router.get("/stream", dependencies=[Depends(Admission("test"))], response_class=StreamingResponse)
async def stream() -> StreamingResponse:
    async def source() -> AsyncGenerator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    return StreamingResponse(source())


@router.get("/own")
async def own() -> Response:
    return Response("", headers={"Content-Security-Policy": "sandbox", "Vary": "Accept"})


@router.head("/own")
@router.get("/known")
async def known() -> Response:
    return Response(status_code=304)


def assert_allowed(response: Any) -> None:
    """Check the headers that a browser requires before the page may read a response."""
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "Origin" in response.headers["vary"].split(", ")
    assert "X-Request-ID" in response.headers["access-control-expose-headers"].split(", ")
    assert "access-control-allow-credentials" not in response.headers


async def test_without_settings_no_other_page_may_use_the_service(service: Service) -> None:
    async with service.client() as client:
        response = await client.get("/health/live", headers={"Origin": PAGE})

    assert not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize("origins", [PAGE, f"https://other.example.com, {PAGE}/", "*"])
async def test_a_page_of_an_allowed_origin_may_use_the_service(serve: Any, origins: str) -> None:
    service: Service = await serve(cors={"origins": origins})
    async with service.client() as client:
        answer = await client.get("/health/live", headers={"Origin": PAGE})

    assert answer.headers["access-control-allow-origin"] in (PAGE, "*")
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"Allow", "Content-Range", "ETag", "Location", "Retry-After", "Upload-Offset"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_page_may_use_every_method_with_every_header(serve: Any, method: str) -> None:
    service: Service = await serve(cors={"origins": PAGE})
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "X-Any"}
    async with service.client() as client:
        answer = await client.options("/nothing", headers={"Origin": PAGE, **asked})

    assert answer.status_code == 200
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    assert answer.headers["access-control-allow-headers"] == "X-Any"
    assert answer.headers["access-control-allow-origin"] == PAGE


async def test_a_page_of_another_origin_may_not(serve: Any) -> None:
    service: Service = await serve(cors={"origins": PAGE})
    other = {"Origin": "https://evil.example.com"}
    async with service.client() as client:
        preflight = await client.options("/", headers={**other, **PREFLIGHT})
        answer = await client.get("/health/live", headers=other)

    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" in answer.headers["vary"].split(", ")  # For caches.


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PUT", "/health/live", 405),
        ("POST", "/body", 413),
        ("GET", "/typed?number=x", 422),
        pytest.param("GET", "/crash", 500, marks=pytest.mark.trap("E1")),
    ],
)
async def test_a_page_is_told_what_went_wrong(
    serve: Any, method: str, path: str, status: int
) -> None:
    service: Service = await serve(router, cors={"origins": PAGE})
    async with service.client() as client:
        body = b"x" * 11 if method == "POST" else b""
        response = await client.request(method, path, content=body, headers={"Origin": PAGE})

    assert response.status_code == status
    assert_allowed(response)


async def test_a_page_is_told_that_the_service_is_full_or_ends(serve: Any) -> None:
    limits = {"max_streams": 1}
    service: Service = await serve(router, cors={"origins": PAGE}, streaming=limits)
    async with service.client() as client, service.raw_connection() as peer:
        await peer.get("/stream")
        await peer.read_until(b"first")
        full = await client.get("/stream", headers={"Origin": PAGE})
        await service.call(service.app.state.kernel.drain.begin)
        draining = await client.get("/stream", headers={"Origin": PAGE})

    for response in (full, draining):
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert_allowed(response)


@pytest.mark.parametrize("path", ["/health/live", "/nothing", "/crash", "/openapi.json"])
async def test_a_browser_does_nothing_with_an_answer(serve: Any, path: str) -> None:
    service: Service = await serve(router)
    async with service.client() as client:
        headers = (await client.get(path)).headers

    assert {name: headers.get(name) for name in SAFETY} == SAFETY
    assert "strict-transport-security" not in headers


async def test_over_tls_a_browser_shall_not_come_without(serve: Any) -> None:
    service: Service = await serve()
    async with service.client() as client:
        answer = await client.get("/health/live", headers={"X-Forwarded-Proto": "https"})

    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_an_answer_may_say_something_else(serve: Any) -> None:
    service: Service = await serve(router, cors={"origins": PAGE})
    async with service.client() as client:
        answer = await client.get("/own", headers={"Origin": PAGE})
        not_modified = await client.get("/known")

    assert answer.headers.get_list("content-security-policy") == ["sandbox"]
    # For an <img> on a page of an allowed origin: the header cannot name origins.
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["vary"] == "Accept, Origin"
    # The cached response has its own.
    assert not SAFETY.keys() & not_modified.headers.keys()


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/own", {"GET", "HEAD"}), ("/typed", {"GET", "POST"}), ("/crash", {"GET"})],
)
async def test_a_refused_method_is_told_all_others(
    serve: Any, path: str, allowed: set[str]
) -> None:
    service: Service = await serve(router)
    async with service.client() as client:
        answer = await client.delete(path)

    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert "Method Not Allowed" in answer.text


@pytest.mark.trap("E7")
async def test_openapi_tells_how_errors_look(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.client() as client:
        document = (await client.get("/openapi.json")).json()
        error = await client.get("/typed")

    kernel = service.app.state.kernel
    form = {"$ref": f"#/components/schemas/{kernel.error_schema['title']}"}
    responses = document["paths"]["/typed"]["get"]["responses"]
    for status in ("422", "default"):
        assert responses[status]["content"] == {kernel.media_type: {"schema": form}}
    assert error.headers["content-type"] == kernel.media_type
    assert error.json().keys() >= set(kernel.error_schema["required"])
    assert "HTTPValidationError" not in document["components"]["schemas"]
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert all("default" in each["responses"] for each in operations)
