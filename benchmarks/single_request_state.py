"""Prepare a service for single requests: its catalogue, its topics, an upload.

python single_request_state.py PACKAGE DIRECTORY FILES     # in the environment of the service
"""

import asyncio
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

HOST = "127.0.0.1"
#: Files with bytes: as many as an archive of a request of 100 kB can have, and a large one.
REAL, SMALL, LARGE = 2500, 1 << 10, 8 << 20
#: Size of the partial upload that is repeated, and the number of repetitions.
PART, TIMES = 1 << 20, 1000
EVENT = b"x" * 100
#: Pipelined requests per publisher, and the number of publishers.
BATCH, PUBLISHERS = 50, 4
PATIENCE = 60
#: Size of the upload that waits for its parts.
APPENDED = 90_000


@dataclass(frozen=True)
class State:
    """Ids and positions of a prepared service, for the text of requests."""

    host: str
    ids: list[str]
    """Of files that have bytes; the first one is large."""
    start: str
    """An event id from before all events."""
    part: str
    """The path of a finished partial upload of tus, of PART bytes."""
    upload: str
    """The path of one that waits for its bytes."""


def catalogue(package: str, directory: Path, count: int) -> list[str]:
    """Create the records of files, and the bytes of some; return the ids of the latter."""
    records = import_module(f"{package}.engine.storage.records")
    module = import_module(f"{package}.engine.storage.catalogue")
    # An older service, for a comparison, has only one class.
    table = getattr(module, "LocalCatalogue", module.Catalogue)
    place = import_module(f"{package}.engine.storage.place")
    directory.mkdir(parents=True, exist_ok=True)
    ids: list[str] = []

    async def fill() -> None:
        held = place.Place(directory, keep_free=0)
        opened = table(directory / "catalogue.sqlite3", held)
        opened.execute("BEGIN")
        for number in range(count):
            file_id = records.new_id()
            size = LARGE if number == 0 else SMALL
            if number < REAL:
                ids.append(file_id)
                path = directory / "files" / file_id[-2:] / file_id
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x" * size)
            record = records.FileRecord(
                id=file_id, filename=f"{number}.txt", content_type="text/plain", size=size,
                created_at=1_700_000_000 + number,
            )  # fmt: skip
            opened.execute(
                "INSERT INTO files (id, record, announced) VALUES (?, ?, 1)",
                file_id, record.model_dump_json(),
            )  # fmt: skip
        opened.execute("COMMIT")
        await opened.close()
        held.close()

    asyncio.run(fill())
    return ids


def topic(number: int) -> str:
    return f"a.t{number}"


def publish(port: int, topics: int, events: int) -> str:
    """Publish small events on topics in turn; return an id before the first of them."""
    first = ask(port, post_event(port, topic(0)))
    with ThreadPoolExecutor(PUBLISHERS) as threads:
        shares = [range(start, events, PUBLISHERS) for start in range(PUBLISHERS)]
        list(threads.map(lambda share: publish_all(port, topics, share), shares))
    epoch = str(json.loads(first.partition(b"\r\n\r\n")[2])["id"]).partition("-")[0]
    return f"{epoch}-0"


def publish_all(port: int, topics: int, numbers: range) -> None:
    left = [post_event(port, topic(number % topics)) for number in numbers]
    while left:
        # The service may close a connection; requests without a response are sent again.
        with socket.create_connection((HOST, port), PATIENCE) as sock:
            try:
                while left:
                    batch = left[:BATCH]
                    sock.sendall(b"".join(batch))
                    answered, tail = 0, b""
                    while answered < len(batch):
                        if not (data := sock.recv(1 << 16)):
                            raise ConnectionError
                        seen = tail + data
                        answered += seen.count(b"HTTP/1.1 2")
                        tail = seen[-9:] if not seen.endswith(b"HTTP/1.1 2") else b""
                    del left[:answered]
            except ConnectionError:
                continue


def post_event(port: int, name: str) -> bytes:
    return (
        f"POST /topics/{name}/events HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(EVENT)}\r\n\r\n"
    ).encode() + EVENT


def begin(port: int, length: int, body: bytes = b"") -> str:
    """Create a partial tus upload, which is complete if the body has its length."""
    head = (
        f"POST /uploads HTTP/1.1\r\nHost: {HOST}:{port}\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Concat: partial\r\nUpload-Length: {length}\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    response = ask(port, head.encode() + body)
    lines = response.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    location = next(line for line in lines if line.startswith(b"location:"))
    return "/uploads/" + location.rpartition(b"/")[2].decode()


def ask(port: int, request: bytes) -> bytes:
    """Send a request on a new connection; return its response."""
    with socket.create_connection((HOST, port), PATIENCE) as sock:
        sock.sendall(request)
        response = b""
        while b"\r\n\r\n" not in response or response.endswith(b"\r\n\r\n"):
            data = sock.recv(1 << 16)
            if not data:
                break
            response += data
            if b"\r\ncontent-length: 0" in response.lower():
                break
        return response


if __name__ == "__main__":
    json.dump(catalogue(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])), sys.stdout)
