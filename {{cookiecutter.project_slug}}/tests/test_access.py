"""Keys and their scopes."""

from {{cookiecutter.package_name}}.engine.testing import LiveServer


async def test_a_request_without_a_key_is_refused(service: LiveServer) -> None:
    async with service.client() as client:
        del client.headers["Authorization"]
        response = await client.get("/metrics")

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_key_needs_the_scope_of_the_route(service: LiveServer) -> None:
    async with service.client("monitor") as monitor, service.client("reader") as reader:
        allowed = await monitor.get("/metrics")
        refused = await reader.get("/metrics")

    assert (allowed.status_code, refused.status_code) == (200, 403)
