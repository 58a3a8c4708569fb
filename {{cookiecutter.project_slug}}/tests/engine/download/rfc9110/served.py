"""A file on a server, and the responses to requests for it."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from starlette.datastructures import Headers

from ...peer import connect
from ...service import Service

#: Large enough to be sent in several messages.
DATA = random.randbytes(300_000)
SIZE = len(DATA)
#: Headers that servers and the kernel add to every response.
_ADDED = {"date", "server", "connection", "x-request-id"}


def sha256(data: bytes) -> str:
    """Return a hash, which a failed test shows instead of the bytes."""
    return hashlib.sha256(data).hexdigest()


@dataclass
class Answer:
    status: int
    headers: Headers
    body: bytes

    @property
    def names(self) -> set[str]:
        """The names of the headers that the application sets."""
        return set(self.headers) - _ADDED

    def fields(self, *names: str) -> list[str | None]:
        return [self.headers.get(name) for name in names]


class Served:
    """A stored file; `TAG` in a request is replaced by its ETag."""

    def __init__(self, service: Service, file_id: str, modified: datetime) -> None:
        self.service = service
        self.path = f"/files/{file_id}"
        self.tag = f'"{file_id}"'
        self.modified = modified

    async def get(self, *lines: str) -> Answer:
        return await self.ask("GET", lines)

    async def head(self, *lines: str) -> Answer:
        return await self.ask("HEAD", lines)

    async def ask(self, method: str, lines: Sequence[str] = (), path: str = "") -> Answer:
        """Send one request, read until the server closes, and check the framing."""
        head = [f"{method} {path or self.path} HTTP/1.1", "Host: test", "Connection: close"]
        head += [line.replace("TAG", self.tag) for line in lines]
        async with connect(self.service.port) as peer:
            await peer.send("\r\n".join([*head, "", ""]).encode("latin-1"))
            status, *fields = (await peer.read_head()).decode("latin-1").split("\r\n")[:-2]
            body = await peer.read_to_end()
        pairs = [field.split(":", 1) for field in fields]
        raw = [(k.lower().encode(), v.strip().encode("latin-1")) for k, v in pairs]
        answer = Answer(int(status.split()[1]), Headers(raw=raw), body)
        assert len(raw) == len(set(answer.headers)), "a field is there twice"
        assert "transfer-encoding" not in answer.headers
        if method != "HEAD" and answer.status != 304:
            assert answer.headers["content-length"] == str(len(body))
        return answer

    def dates(self, seconds: int) -> dict[str, str]:
        """Return the Last-Modified plus an offset in the three date formats."""
        moment = self.modified + timedelta(seconds=seconds)
        return {
            "IMF-fixdate": format_datetime(moment, usegmt=True),
            "RFC 850": f"{moment:%A, %d-%b-%y %H:%M:%S} GMT",
            "asctime": f"{moment:%a %b} {moment.day:2} {moment:%H:%M:%S %Y}",
        }


class Clock:
    """Replaces the `datetime` of a module, at a given time after the file was stored."""

    def __init__(self, file: Served, seconds: float) -> None:
        self._now = file.modified + timedelta(seconds=seconds)

    def now(self, zone: object) -> datetime:
        assert zone is UTC
        return self._now
