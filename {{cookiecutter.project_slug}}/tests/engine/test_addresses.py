"""Links in responses lead to the application, wherever it is mounted."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request

from {{cookiecutter.package_name}}.engine.kernel.origins import base_of
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.engine.settings import ServiceSettings
from {{cookiecutter.package_name}}.engine.testing import LiveServer


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


async def get(app: Service, path: str) -> httpx.Response:
    async with LiveServer(app) as service, service.client() as client:
        return await client.get(path)


@pytest.mark.parametrize("at", ["", "/inner", "/outer/inner"])
async def test_a_link_begins_where_the_application_is(at: str) -> None:
    app, outer = make(), FastAPI()
    outer.mount("/inner", make())
    app.mount("/outer", outer)
    app.mount("/inner", make())

    answer = await get(app, f"{at}/base")

    assert answer.json() == f"http://{answer.request.headers['host']}{at}"


async def test_a_public_url_is_taken_as_it_is() -> None:
    app = make()
    app.mount("/inner", make("https://files.example.com/a"))

    assert (await get(app, "/inner/base")).json() == "https://files.example.com/a"


async def test_a_refusal_keeps_the_headers_of_the_owner() -> None:
    answer = await get(make(), "/refused")

    assert answer.headers["x-reason"] == "owner"
    assert answer.headers["allow"] == "GET"
