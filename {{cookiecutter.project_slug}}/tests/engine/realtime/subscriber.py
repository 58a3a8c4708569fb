"""A client of an event stream on a raw connection, and a publisher for it."""

from ..peer import Peer
from ..service import Service

TEXT = {"Content-Type": "text/plain"}


class Subscriber:
    """A client of an event stream that sees every byte."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def open(self, topic: str, *headers: str, query: str = "") -> bytes:
        """Subscribe, wait for the first event, and return the headers."""
        await self._peer.get(f"/topics/{topic}/events{query}", *headers)
        head = await self._peer.read_head()
        self.greeting = await self.block()
        return head

    async def block(self) -> dict[str, str]:
        """Return the fields of the next event, without chunked framing and comments."""
        text = ""
        while not text.endswith("\n\n"):
            line = (await self._peer.read_until(b"\n")).decode()
            if not line.endswith("\r\n") and not line.startswith(":"):
                text += line
        fields: dict[str, str] = {}
        for line in text.split("\n"):
            name, _, value = line.partition(": ")
            if name:
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        return fields

    async def ending(self) -> bytes:
        """Return all bytes until the server closes."""
        return await self._peer.read_to_end()

    async def next(self, event: str) -> dict[str, str]:
        """Skip events until the next one of a type, and return it."""
        found, _ = await self.until(event)
        return found

    async def until(self, event: str) -> tuple[dict[str, str], list[dict[str, str]]]:
        """Return the next event of a type, and those before it."""
        before: list[dict[str, str]] = []
        while (block := await self.block()).get("event") != event:
            before.append(block)
        return block, before


async def publish(service: Service, topic: str, *texts: str) -> list[str]:
    """Publish texts one after the other and return their ids."""
    ids = []
    async with service.client() as client:
        for text in texts:
            response = await client.post(f"/topics/{topic}/events", content=text, headers=TEXT)
            assert response.status_code == 202, response.text
            ids.append(response.json()["id"])
    return ids
