"""Errors: one document for every error."""

from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import AfterValidator

from {{cookiecutter.package_name}}.engine.kernel import Problem, RequestBody

from ..service import Service

router = APIRouter()
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@router.get("/crash")
@router.head("/crash")
async def crash() -> None:
    raise ValueError("secret=abc")


@router.get("/teapot")
async def teapot() -> None:
    raise HTTPException(418, headers={"Retry-After": "7"})


@router.get("/nothing")
@router.head("/problem")
async def nothing(status: int = 409) -> None:
    raise HTTPException(status, headers={"ETag": '"e"'})


@router.get("/unregistered")
async def unregistered() -> None:
    raise HTTPException(499)


@router.get("/problem")
async def problem() -> None:
    raise Problem(409, "Somebody else did.", holder="them")


@router.get("/typed")
async def typed(number: Annotated[int, Query(alias="a/b")]) -> int:
    return number


def check_even(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


@router.get("/checked")
async def checked(
    even: Annotated[int, AfterValidator(check_even)] = 0,
    id: UUID | None = None,  # noqa: A002
) -> None:
    pass


@router.post("/body")
async def read_body(request: Request) -> int:
    return len(await RequestBody(request, limit=10).read())


@pytest.fixture
async def service(serve: Any) -> Service:
    started: Service = await serve(router)
    return started


@pytest.mark.trap("E5")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("PUT", "/health/live", 405),
        ("GET", "/crash", 500),
        ("GET", "/teapot", 418),
        ("GET", "/problem", 409),
        ("GET", "/unregistered", 499),
        ("GET", "/typed?a%2Fb=x", 422),
        ("POST", "/body", 413),
        ("GET", "/not%22a%C3%BC", 404),
    ],
)
async def test_every_error_is_a_problem_document(
    service: Service, method: str, path: str, status: int
) -> None:
    async with service.client() as client:
        body = b"x" * 11 if method == "POST" else b""
        response = await client.request(method, path, content=body)

    document = response.json()
    assert response.status_code == document["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert document.keys() >= {"type", "title", "status", "detail", "instance", "request_id"}
    assert document["instance"] == path.partition("?")[0]
    assert response.headers["cache-control"] == "no-store"
    assert document["request_id"] == response.headers["x-request-id"]


async def test_an_error_keeps_its_headers(service: Service) -> None:
    async with service.client() as client:
        assert (await client.put("/health/live")).headers["allow"] == "GET, HEAD"
        assert (await client.get("/teapot")).headers["retry-after"] == "7"


@pytest.mark.parametrize("path", ["/nope", "/crash", "/problem"])
async def test_an_error_has_no_body_for_head(service: Service, path: str) -> None:
    async with service.raw_connection() as peer:
        await peer.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, rest = await peer.read_head(), await peer.read_to_end()

    assert b"application/problem+json" in head
    assert rest == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_what_is_no_error_has_no_body(service: Service, status: int) -> None:
    async with service.client() as client:
        response = await client.get("/nothing", params={"status": status})

    assert (response.status_code, response.content) == (status, b"")
    assert response.headers["etag"] == '"e"'


async def test_a_problem_has_its_detail_and_members(service: Service) -> None:
    async with service.client() as client:
        document = (await client.get("/problem")).json()
    assert (document["detail"], document["holder"]) == ("Somebody else did.", "them")


@pytest.mark.trap("E6")
async def test_a_validation_error_tells_the_place_and_not_the_input(service: Service) -> None:
    async with service.client() as client:
        response = await client.get("/typed", params={"a/b": "secret"})

    assert "secret" not in response.text
    [error] = response.json()["errors"]
    assert error["pointer"] == "/query/a~1b"
    assert error["code"] == "int_parsing"


@pytest.mark.parametrize(
    ("name", "detail"),
    [("id", "This is not a valid UUID."), ("even", "This value is not valid.")],
)
async def test_no_message_of_a_validation_error_quotes_the_input(
    service: Service, name: str, detail: str
) -> None:
    async with service.client() as client:
        response = await client.get("/checked", params={name: "5001"})

    document = response.json()
    assert document["type"] == "/problems/invalid-request"
    assert [(each["pointer"], each["detail"]) for each in document["errors"]] == [
        (f"/query/{name}", detail)
    ]
    assert "5001" not in response.text


@pytest.mark.trap("E12")
async def test_a_bug_tells_clients_nothing(service: Service) -> None:
    async with service.client() as client:
        response = await client.get("/crash")

    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.json()["detail"] == "Internal Server Error"
    assert response.headers["connection"] == "close"  # The exception closes it.
    assert await service.outcome_of("GET /crash") == "server_error"


@pytest.mark.parametrize(
    ("offered", "taken"), [("abc-123", True), ("x" * 129, False), ("a b", False), ("", False)]
)
async def test_a_well_formed_request_id_is_kept(
    service: Service, offered: str, taken: bool
) -> None:
    async with service.client() as client:
        response = await client.get("/nope", headers={"X-Request-ID": offered})

    assert (response.json()["request_id"] == offered) is taken
    assert response.headers["x-request-id"]


async def test_a_problem_belongs_to_the_trace_of_its_request(service: Service) -> None:
    async with service.client() as client:
        traced = await client.get("/nope", headers={"traceparent": TRACE})
        bare = await client.get("/nope", headers={"traceparent": TRACE.replace("-01", "-x")})

    assert traced.json()["trace_id"] == TRACE[3:35]
    assert "trace_id" not in bare.json()
