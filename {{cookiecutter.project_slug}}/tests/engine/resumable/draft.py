"""A client of the IETF draft "Resumable Uploads for HTTP", down to its interim responses.

Section numbers in the tests are those of draft-ietf-httpbis-resumable-upload-11 and later.
"""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from .. import stores
from ..peer import Peer

PARTIAL = "application/partial-upload"
TYPES = "https://iana.org/assignments/http-problem-types#"
#: The route in outcomes, after the method.
ROUTE = "/uploads/{upload_id}"

_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=(\d{1,15})")

Headers = Mapping[str, str]


class Head(NamedTuple):
    """Status and headers of a response, interim or final."""

    status: int
    headers: dict[str, str]


async def create(
    client: httpx.AsyncClient,
    data: bytes | AsyncIterator[bytes] = b"",
    headers: Headers | None = None,
    *,
    complete: bool = False,
    path: str = "/uploads",
) -> httpx.Response:
    """Create an upload with its first bytes (section 4.2)."""
    marked = {"Upload-Complete": "?1" if complete else "?0"} | dict(headers or {})
    return await client.post(path, content=data, headers=marked)


async def begin(
    client: httpx.AsyncClient, data: bytes = b"", headers: Headers | None = None
) -> str:
    """Create an incomplete upload, and return its URL."""
    response = await create(client, data, headers)
    assert response.status_code == 201, response.text
    return response.headers["location"]


async def append(
    client: httpx.AsyncClient,
    url: str,
    offset: int,
    data: bytes | AsyncIterator[bytes] = b"",
    headers: Headers | None = None,
    *,
    complete: bool = False,
) -> httpx.Response:
    """Append bytes to an upload (section 4.4)."""
    marked = {
        "Content-Type": PARTIAL,
        "Upload-Offset": str(offset),
        "Upload-Complete": "?1" if complete else "?0",
    }
    return await client.patch(url, content=data, headers=marked | dict(headers or {}))


async def offset_of(client: httpx.AsyncClient, url: str) -> int:
    """Return the offset of an incomplete upload (section 4.3)."""
    response = await client.head(url)
    assert (response.status_code, response.headers["upload-complete"]) == (204, "?0")
    return int(response.headers["upload-offset"])


def limits_of(response: httpx.Response) -> dict[str, int]:
    """Parse `Upload-Limit`: a dictionary of integers only (section 4.1.4)."""
    matches = [_MEMBER.fullmatch(part) for part in response.headers["upload-limit"].split(", ")]
    assert matches
    assert all(matches), response.headers["upload-limit"]
    return {match[1]: int(match[2]) for match in matches if match}


def is_problem(response: httpx.Response, name: str, **members: int) -> bool:
    """Whether an error has a type of the draft (section 7)."""
    if response.headers["content-type"] == "application/json":
        return "detail" in response.json()  # Without the errors module there is only the detail.
    said = {key.replace("_", "-"): value for key, value in members.items()} | {"type": TYPES + name}
    is_document = response.headers["content-type"] == "application/problem+json"
    return is_document and said.items() <= response.json().items()


def unfinished(tmp_path: Path) -> set[str]:
    """Return the ids of the uploads whose bytes the service still keeps."""
    return {name.partition(".")[0] for name in stores.left(tmp_path / "data", "uploads")}


def bare(method: str, url: str, length: int | None, *headers: str, version: str = "1.1") -> bytes:
    """Return request line and headers, for a peer that sends the body in steps."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    _, host, path, *_ = urlsplit(url)
    start = f"{method} {path} HTTP/{version}"
    return "\r\n".join([start, f"Host: {host}", framing, *headers, "", ""]).encode()


def bare_append(url: str, offset: int, length: int | None, *headers: str) -> bytes:
    """Return request line and headers of an append; `headers` has Upload-Complete."""
    return bare(
        "PATCH", url, length, f"Content-Type: {PARTIAL}", f"Upload-Offset: {offset}", *headers
    )


async def send_part(peer: Peer, head: bytes, data: bytes) -> None:
    """Send a request, wait until the service reads it, then send some of the body."""
    await peer.send(head.removesuffix(b"\r\n") + b"Expect: 100-continue\r\n\r\n")
    await peer.read_until(b"100 Continue\r\n\r\n")
    await peer.send(data)


async def read_heads(peer: Peer) -> list[Head]:
    """Read the interim responses and the headers of the final one."""
    heads: list[Head] = []
    while not heads or heads[-1].status < 200:
        start, *lines = (await peer.read_head()).decode().strip().split("\r\n")
        fields = (line.partition(": ") for line in lines)
        heads.append(Head(int(start.split()[1]), {name.lower(): text for name, _, text in fields}))
    return heads
