"""Health checks for orchestrators and load balancers."""

from .service import Service


async def test_a_running_service_is_live_and_ready(service: Service) -> None:
    async with service.client() as client:
        for path in ("/health/live", "/health/ready", "/"):
            assert (await client.get(path)).status_code == 200
            assert (await client.head(path)).status_code == 200


async def test_a_draining_service_is_live_but_not_ready(service: Service) -> None:
    await service.call(service.app.state.kernel.drain.begin)

    async with service.client() as client:
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503
