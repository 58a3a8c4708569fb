"""CORS: which pages may use the service, and what they are told."""

from typing import Any

import pytest

from .service import Service

PAGE = "https://app.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-Any"}


async def test_without_settings_no_other_page_may_use_the_service(service: Service) -> None:
    async with service.client() as client:
        response = await client.get("/health/live", headers={"Origin": PAGE})

    assert not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize("origins", [PAGE, f"https://other.example.com, {PAGE}/", "*"])
async def test_a_page_of_an_allowed_origin_may_use_the_service(serve: Any, origins: str) -> None:
    service: Service = await serve(cors={"origins": origins})
    async with service.client() as client:
        preflight = await client.options("/", headers={"Origin": PAGE, **PREFLIGHT})
        answer = await client.get("/health/live", headers={"Origin": PAGE})
        refusal = await client.get("/nothing", headers={"Origin": PAGE})

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-headers"] == "X-Any"
    assert refusal.status_code == 404
    for response in (preflight, answer, refusal):
        assert response.headers["access-control-allow-origin"] in (PAGE, "*")
    assert "Location" in answer.headers["access-control-expose-headers"]


async def test_a_page_of_another_origin_may_not(serve: Any) -> None:
    service: Service = await serve(cors={"origins": PAGE})
    async with service.client() as client:
        preflight = await client.options(
            "/", headers={"Origin": "https://evil.example.com", **PREFLIGHT}
        )
        answer = await client.get("/health/live", headers={"Origin": "https://evil.example.com"})

    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
