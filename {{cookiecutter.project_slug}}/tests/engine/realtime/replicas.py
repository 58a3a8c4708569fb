"""Two processes of a service on one Redis, and pages that survive the death of one of them."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import httpx

from ..peer import PATIENCE, keep_port
from ..service import ServiceProcess
from ..signals import CONTINUE, STOP
from . import words
from .parsers import EventStreamParser, JsonLinesParser, Record
from .redis import until

Parser = EventStreamParser | JsonLinesParser  # UIMessageParser is one, too.


class Replica:
    """A process with a fixed port, so that its clients find it again after a restart."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self._kept = keep_port()
        self._directory = directory
        port = self._kept.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._settings = {"SERVER__DRAIN_NOTICE": "0.1", "SERVER__PORT": str(port), **settings}

    async def start(self) -> None:
        self.process = ServiceProcess(self._directory, "-m", "words", **self._settings)
        await self.process.__aenter__()

    def suspend(self) -> None:
        self.process.process.send_signal(STOP)

    def resume(self) -> None:
        self.process.process.send_signal(CONTINUE)

    async def kill(self) -> None:
        """Kill it with SIGKILL."""
        await self.process.__aexit__()

    async def end(self) -> None:
        await self.kill()
        self._kept.close()


@asynccontextmanager
async def replicas(directory: Path, url: str, **settings: str) -> AsyncIterator[list[Replica]]:
    """Start two processes in a directory, with the broker at `url`."""
    shutil.copy(words.__file__, directory)
    both = [Replica(directory, REALTIME__BROKER_URL=url, **settings) for _ in range(2)]
    try:
        await asyncio.gather(*(each.start() for each in both))
        yield both
    finally:
        for each in both:
            await each.end()


async def until_generations(directory: Path, answer: str, count: int) -> None:
    """Wait until a text has been generated `count` times."""

    async def are_there() -> bool:
        return len(generations(directory, answer)) >= count

    await until(are_there)


def generations(directory: Path, answer: str) -> list[int]:
    """Return the first word of each generation of a text."""
    file = directory / words.GENERATIONS
    lines = file.read_text().splitlines() if file.exists() else []
    return [int(line.split()[2]) for line in lines if line.split()[1] == answer]


def transcript(count: int) -> str:
    """Return the whole text."""
    return "".join(map(words.word, range(count)))


class Page:
    """A client that reads one run to its end, over any number of connections.

    After the loss of a connection it continues after the last event that it has received, like
    EventSource, or begins again if it does not `resume`. It uses the addresses in turn.
    """

    def __init__(
        self, urls: list[str], path: str, parser: Callable[[], Parser], *, resumes: bool
    ) -> None:
        self._urls, self._path, self._parser, self._resumes = cycle(urls), path, parser, resumes
        self.text, self.end, self._last = "", "", ""
        #: The number of connections, and of texts on the last one.
        self.connections = self.frames = 0
        self._news = asyncio.Event()

    async def read(self) -> str:
        """Read to the end; return the transcript."""
        async with asyncio.timeout(PATIENCE * 3), httpx.AsyncClient(timeout=PATIENCE) as client:
            while not self.end:
                try:
                    await self._connect(client)
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
        return self.text

    async def has(self, count: int) -> None:
        """Wait until a number of words have arrived."""
        while self.text.count(" ") < count:
            await asyncio.wait_for(self._news.wait(), PATIENCE)
            self._news.clear()

    async def _connect(self, client: httpx.AsyncClient) -> None:
        if not self._resumes:
            self.text = self._last = ""
        parser, url = self._parser(), next(self._urls) + self._path
        headers = {"Accept": parser.media_type}
        if self._last:
            headers["Last-Event-ID"] = self._last
        self.connections += 1
        self.frames = 0
        async with client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                self.end = str(response.status_code)
                return
            async for data in response.aiter_raw():
                for record in parser.feed(data):
                    self._take(record)

    def _take(self, record: Record) -> None:
        match record.event:
            case "reset":
                self.text = ""
            case "end":
                self.end = json.loads(record.data)["status"]
            case None:
                self.text += json.loads(record.data)["text"]
                self.frames += 1
        self._news.set()
        self._last = record.id
