"""A client of long-polling."""

from typing import Any

from ..service import Service


async def poll(
    service: Service, topics: str, last_event_id: str | None = None, *, seconds: float = 0
) -> dict[str, Any]:
    """Ask once, from now on without a position, and return the answer."""
    position = {} if last_event_id is None else {"last_event_id": last_event_id}
    async with service.client() as client:
        response = await client.get(
            f"/topics/{topics}/events", params={"poll": seconds, **position}
        )
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    answer: dict[str, Any] = response.json()
    assert answer.keys() == {"events", "last_event_id"}
    return answer


async def position_of(service: Service, topics: str) -> str:
    """Return the position of now."""
    return str((await poll(service, topics))["last_event_id"])


async def replay(service: Service, topics: str, last_event_id: str) -> list[Any]:
    """Return what a client that comes back is told at once: data, or why there is a gap."""
    events = (await poll(service, topics, last_event_id))["events"]
    return [e["data"]["reason"] if e["event"] == "reset" else e["data"] for e in events]
