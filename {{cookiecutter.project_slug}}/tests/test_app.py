"""Tests of the application; those without streams can use `TestClient`."""

import httpx
from fastapi.testclient import TestClient

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.settings import Settings


async def test_the_service_is_ready(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")

    assert response.status_code == 200
    assert response.json()["status"] == "ready"


def test_the_api_is_documented(settings: Settings) -> None:
    with TestClient(create_app(settings)) as client:
        response = client.get("/openapi.json")

    assert response.status_code == 200
    assert "/health/ready" in response.json()["paths"]
