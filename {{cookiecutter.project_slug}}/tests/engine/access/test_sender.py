"""`GET /access`: the principal and the scopes of a credential."""

from ..service import Service


async def test_a_client_learns_its_principal_and_scopes(service: Service) -> None:
    async with service.client("files:read", "topics:subscribe:a.*", owner="ann") as client:
        response = await client.get("/access")

    assert response.json() == {
        "principal": "ann",
        "scopes": ["files:read", "topics:subscribe:a.*"],
    }
    assert response.headers["cache-control"] == "no-store"


async def test_without_a_key_there_is_no_sender(service: Service) -> None:
    async with service.client() as client:
        del client.headers["Authorization"]
        response = await client.get("/access")

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="api"'
