"""A client of long-polling."""

from typing import Any

from ..service import Service


async def poll(
    service: Service, topics: str, last_event_id: str | None = None, *, seconds: float = 0
) -> dict[str, Any]:
    """Send one long-poll, without a position from now on, and return the response."""
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
    """Return the current position."""
    return str((await poll(service, topics))["last_event_id"])


async def replay(service: Service, topics: str, last_event_id: str) -> list[Any]:
    """Return the replay of a client that reconnects: data, and the reasons of gaps."""
    events = (await poll(service, topics, last_event_id))["events"]
    return [e["data"]["reason"] if e["event"] == "reset" else e["data"] for e in events]
