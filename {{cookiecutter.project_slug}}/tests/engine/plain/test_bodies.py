"""Request bodies that a plain path operation reads itself are bounded, and refused like others."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, Form, Request, UploadFile

from {{cookiecutter.package_name}}.engine.service import Service as Application
from {{cookiecutter.package_name}}.engine.settings import ServiceSettings
from {{cookiecutter.package_name}}.engine.testing import LiveServer

from ..service import Service
from ..test_handlers import Stamp

LIMIT = 10_000
LIMITS: Any = {"streaming": {"max_body": LIMIT, "max_form": 10 * LIMIT}}


def router() -> APIRouter:
    router = APIRouter()

    @router.post("/json")
    async def of_json(body: Annotated[dict[str, Any], Body()]) -> int:
        return len(body)

    @router.post("/form")
    async def of_form(name: Annotated[str, Form()]) -> int:
        return len(name)

    @router.post("/file")
    async def of_file(file: UploadFile) -> int:
        return len(await file.read())

    @router.post("/stream")
    async def of_stream(request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @router.post("/large", max_body_size=5 * LIMIT)
    async def of_large(request: Request) -> int:
        return len(await request.body())

    return router


def requests(size: int) -> dict[str, dict[str, Any]]:
    return {
        "/json": {"json": {"a": "x" * size}},
        "/form": {"data": {"name": "x" * size}},
        "/stream": {"content": b"x" * size},
        "/file": {"files": {"file": b"x" * size * 10}},
        "/large": {"content": b"x" * 5 * size},
    }


async def chunks(body: bytes) -> Any:
    yield body


@pytest.mark.bound("6.4")
@pytest.mark.bound("6.5")
@pytest.mark.parametrize("path", requests(0))
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.plain("U9")
async def test_a_body_above_the_limit_is_refused(serve: Any, path: str, declared: bool) -> None:
    service: Service = await serve(router(), **LIMITS)

    async with service.client() as client:
        request = client.build_request("POST", path, **requests(LIMIT + 1)[path])
        if not declared:
            body = request.read()
            kind = request.headers.get("content-type", "application/octet-stream")
            headers = {"Content-Type": kind}
            request = client.build_request("POST", path, content=chunks(body), headers=headers)
        refused = await client.send(request)
        accepted = await client.post(path, **requests(LIMIT - 1000)[path])

    assert refused.status_code == 413
    limits = (LIMIT, 5 * LIMIT, 10 * LIMIT)
    assert refused.json()["detail"] in [f"The body may have at most {n} bytes." for n in limits]
    assert accepted.status_code == 200, accepted.text


@pytest.mark.parametrize("path", requests(0))
@pytest.mark.plain("U13")
async def test_a_body_that_stalls_is_refused(serve: Any, path: str) -> None:
    service: Service = await serve(router(), **LIMITS)

    async with service.raw_connection() as peer:
        head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n"
        kind = "multipart/form-data; boundary=x" if path == "/file" else "application/json"
        if path == "/form":
            kind = "application/x-www-form-urlencoded"
        await peer.send(f"{head}Content-Type: {kind}\r\n\r\n".encode())
        answer = await peer.read_to_end()

    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("path", requests(0))
async def test_a_refusal_is_the_same_below_middleware(path: str) -> None:
    settings: Any = ServiceSettings
    app = Application(settings(_env_file=None, **LIMITS))
    app.include_router(router())
    app.add_middleware(Stamp)

    async with LiveServer(app) as service, service.client() as client:
        answer = await client.post(path, **requests(LIMIT + 1)[path])

    assert answer.status_code == 413


@pytest.mark.bound("6.4")
async def test_the_limit_of_the_application_is_fastapis(serve: Any) -> None:
    settings: Any = ServiceSettings
    app = Application(settings(_env_file=None, **LIMITS), max_body_size=LIMIT // 2)
    app.include_router(router())

    async with LiveServer(app) as service, service.client() as client:
        refused = await client.post("/stream", content=b"x" * LIMIT)
        accepted = await client.post("/large", content=b"x" * LIMIT)

    assert refused.status_code == 413
    assert accepted.status_code == 200
