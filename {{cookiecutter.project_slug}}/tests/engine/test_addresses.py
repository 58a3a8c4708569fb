"""Links in responses lead back to the application, wherever it is mounted."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request

from {{cookiecutter.package_name}}.engine.kernel.origins import base_of
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.engine.settings import ServiceSettings


def make(public_url: str | None = None) -> Service:
    settings: Any = ServiceSettings
    app = Service(settings(_env_file=None, server={"public_url": public_url}))

    @app.get("/base")
    async def base(request: Request) -> str:
        return base_of(request.scope)

    @app.get("/refused")
    async def refused() -> None:
        raise HTTPException(405, headers={"X-Reason": "owner"})

    return app


async def get(app: FastAPI, path: str, root_path: str = "") -> httpx.Response:
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:81") as client:
        return await client.get(path)


@pytest.mark.parametrize(
    ("root_path", "at"), [("", ""), ("/proxy", ""), ("", "/inner"), ("/proxy", "/inner")]
)
async def test_a_link_begins_where_the_application_is(root_path: str, at: str) -> None:
    app = make()
    if at:
        outer = FastAPI()
        outer.mount(at, app)
    else:
        outer = app

    answer = await get(outer, f"{root_path}{at}/base", root_path)

    assert answer.json() == f"http://localhost:81{root_path}{at}"


async def test_a_public_url_is_taken_as_it_is() -> None:
    app = make("https://files.example.com/a")

    answer = await get(app, "/base", "/proxy")

    assert answer.json() == "https://files.example.com/a"


async def test_a_refusal_keeps_the_headers_of_the_owner() -> None:
    answer = await get(make(), "/refused")

    assert answer.headers["x-reason"] == "owner"
    assert answer.headers["allow"] == "GET"
