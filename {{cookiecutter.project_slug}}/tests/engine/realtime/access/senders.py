"""Clients with keys, and the ways in which they follow topics and publish."""

from typing import Any

from websockets.exceptions import InvalidStatus

from ...service import Service
from ..conversation import converse

SSE, LINES = "text/event-stream", "application/jsonl"
#: The statuses of success; a WebSocket has 101.
GOOD = {200, 101}
#: A topic that the keys of these tests may follow, to open a WebSocket.
LOBBY = "lobby"


def key_of(
    service: Service, owner: str, *grants: str, name: str = "", seconds: float | None = None
) -> str:
    """Return a new key of an owner."""
    store = service.app.state.authenticator.store
    key: str = store.create(owner, (*grants, f"topics:subscribe:{LOBBY}"), name, seconds)
    return key


def bearer(key: str | None) -> dict[str, str]:
    """Return the headers of a request with a key, or of an anonymous one."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def line(key: str) -> str:
    """Return the header of a raw request with a key."""
    return f"Authorization: Bearer {key}"


async def following(service: Service, names: str, key: str | None) -> set[int]:
    """Follow topics in every way, and return the statuses."""
    url, found = f"/topics/{names}/events", set[int]()
    async with service.client() as client:
        for method, query, accept in [
            ("GET", "", SSE),
            ("GET", "", LINES),
            ("GET", "?poll=0", "*/*"),
            ("HEAD", "", "*/*"),
        ]:
            client.headers = bearer(key) | {"Accept": accept}
            async with client.stream(method, url + query) as response:
                found.add(response.status_code)
    found.add(await handshake(service, names, key))
    if key is not None:
        found.add(await command(service, key, "subscribe", topics=names.split(",")))
    return found


async def handshake(service: Service, names: str, key: str | None) -> int:
    """Return the status of a handshake."""
    try:
        async with converse(service, names, additional_headers=bearer(key)):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def command(service: Service, key: str, kind: str, **members: Any) -> int:
    """Send a command on a WebSocket; return the status of its error, or 101."""
    async with converse(service, LOBBY, additional_headers=bearer(key)) as conversation:
        answer = await conversation.ask(kind, **members)
        return int(answer["problem"]["status"]) if answer["type"] == "error" else 101
