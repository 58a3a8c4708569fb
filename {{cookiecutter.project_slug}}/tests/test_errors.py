"""Errors: one shape, whatever went wrong and wherever."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel

from {{cookiecutter.package_name}}.streaming import JsonLines, Problem, RequestBody

from .service import Service

router = APIRouter()


class Row(BaseModel):
    a: int = 1


@router.get("/crash")
async def crash() -> None:
    raise ValueError("secret=abc")


@router.get("/teapot")
async def teapot() -> None:
    raise HTTPException(418, headers={"Retry-After": "7"})


@router.get("/unregistered")
async def unregistered() -> None:
    raise HTTPException(499)


@router.get("/problem")
async def problem() -> None:
    raise Problem(409, "Somebody else did.", holder="them")


@router.get("/typed")
async def typed(number: Annotated[int, Query(alias="a/b")]) -> int:
    return number


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
    assert document["request_id"] == response.headers["x-request-id"]


async def test_an_error_keeps_its_headers(service: Service) -> None:
    async with service.client() as client:
        assert (await client.put("/health/live")).headers["allow"] == "GET"
        assert (await client.get("/teapot")).headers["retry-after"] == "7"


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


@pytest.mark.trap("E12")
async def test_a_bug_tells_clients_nothing(service: Service) -> None:
    async with service.client() as client:
        response = await client.get("/crash")

    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.json()["detail"] == "Internal Server Error"
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


async def test_a_stream_that_fails_ends_with_the_problem(serve: Any) -> None:
    failing = APIRouter()

    @failing.get("/rows", response_class=JsonLines)
    async def rows() -> JsonLines:
        async def source() -> AsyncGenerator[Row]:
            yield Row()
            raise Problem(507, "The disk is full.")

        return JsonLines(source())

    service: Service = await serve(failing)
    received = b""
    async with service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            async with client.stream("GET", "/rows") as response:
                async for chunk in response.aiter_raw():
                    received += chunk

    assert received.startswith(b'{"a":1}\n{"$error":{"type":"about:blank",')
    assert b'"status":507' in received
    assert b'"request_id":"' in received
