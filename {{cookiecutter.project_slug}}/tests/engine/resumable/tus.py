"""A small tus client.

It checks that every response has the version (tus 1.0.0, "Tus-Resumable").
"""

import base64
import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.storage.partials import Partials, Received
from {{cookiecutter.package_name}}.engine.streams import clock

from .. import stores
from ..peer import Peer

VERSION = "1.0.0"
CHUNK = "application/offset+octet-stream"

#: Pairs may repeat a name. Each character is sent as one byte, also outside of ASCII.
Fields = Mapping[str, str] | Iterable[tuple[str, str]]
Body = bytes | AsyncIterator[bytes]


class Tus:
    """Sends tus requests; adds `Tus-Resumable` to requests that do not have it."""

    def __init__(self, service: Any) -> None:
        self._service = service

    async def __aenter__(self) -> Self:
        self.http: httpx.AsyncClient = await self._service.client().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def send(
        self, method: str, url: str, fields: Fields = (), body: Body = b""
    ) -> httpx.Response:
        pairs = list(fields.items() if isinstance(fields, Mapping) else fields)
        if not any(name == "Tus-Resumable" for name, _ in pairs):
            pairs.append(("Tus-Resumable", VERSION))
        headers = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
        response = await self.http.request(method, url, headers=headers, content=body)
        assert response.headers.get_list("tus-resumable") == [VERSION], response
        return response

    async def create(self, fields: Fields, body: Body = b"") -> httpx.Response:
        return await self.send("POST", "/uploads", fields, body)

    async def upload(self, length: int | None, fields: Fields = (), body: Body = b"") -> str:
        """Create an upload and return its URL; without a length it is deferred."""
        known = "Upload-Defer-Length" if length is None else "Upload-Length"
        pairs = dict(fields) | {known: str(1 if length is None else length)}
        if body:
            pairs["Content-Type"] = CHUNK
        response = await self.create(pairs, body)
        assert response.status_code == 201, response.text
        return response.headers["location"]

    async def patch(
        self, url: str, offset: int, body: Body = b"", fields: Fields = ()
    ) -> httpx.Response:
        own = {"Content-Type": CHUNK, "Upload-Offset": str(offset)}
        return await self.send("PATCH", url, own | dict(fields), body)

    async def head(self, url: str) -> httpx.Response:
        return await self.send("HEAD", url)

    async def offset(self, url: str) -> int:
        response = await self.head(url)
        assert response.status_code == 200
        return int(response.headers["upload-offset"])

    async def delete(self, url: str) -> httpx.Response:
        return await self.send("DELETE", url)

    async def record(self, url: str) -> Any:
        """Return the record of the file of an upload; None while it is incomplete."""
        response = await self.http.get(f"/files/{id_of(url)}/record")
        return response.json() if response.status_code == 200 else None


def let_pass(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Advance both clocks; an upload expires after one day."""
    wall, steady = time.time, clock.steady_time
    monkeypatch.setattr(time, "time", lambda: wall() + days * 86_400)
    monkeypatch.setattr(clock, "steady_time", lambda: steady() + days * 86_400)


def id_of(url: str) -> str:
    return url.rpartition("/")[2]


def metadata(**pairs: str | bytes) -> str:
    """Return pairs as `Upload-Metadata`."""
    values = {key: v if isinstance(v, bytes) else v.encode() for key, v in pairs.items()}
    return ",".join(f"{key} {base64.b64encode(v).decode()}" for key, v in values.items())


async def in_pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Yield a body without a length, which is sent with `Transfer-Encoding: chunked`."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def patch_head(url: str, offset: int, *fields: str) -> bytes:
    """Return request line and headers of a PATCH; `fields` has the length of the body."""
    lines = [
        f"PATCH /uploads/{id_of(url)} HTTP/1.1",
        "Host: x",
        f"Tus-Resumable: {VERSION}",
        f"Content-Type: {CHUNK}",
        f"Upload-Offset: {offset}",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def begin_patch(peer: Peer, url: str, offset: int, *fields: str) -> None:
    """Send the headers of a PATCH, and wait until the service reads the body."""
    await peer.send(patch_head(url, offset, *fields, "Expect: 100-continue"))
    await peer.read_until(b"100 Continue\r\n\r\n")


async def was_cut(peer: Peer) -> bool:
    """Return whether the service closes the connection without a response."""
    try:
        return await peer.read_to_end() == b""
    except ConnectionResetError:
        return not peer.unread


async def settle(service: Any) -> None:
    """Wait until the service has read the bytes that were sent: let its loop turn."""
    async with service.client() as client:
        for _ in range(3):
            await client.get("/health/live")


def make_older(service: Any, tmp_path: Path, url: str, seconds: float) -> None:
    """Let the last byte of an upload be older; in S3, where times are fixed, for one service."""
    if not stores.SERVER:
        part = tmp_path / "data" / "uploads" / f"{id_of(url)}.part"
        os.utime(part, (time.time() - seconds,) * 2)
        return
    partials = service.app.state.uploads.partials
    ages: dict[str, float] = vars(partials).setdefault("ages", {})
    ages[id_of(url)] = seconds
    if len(ages) > 1:
        return
    real = partials.received

    async def received(upload_ids: Iterable[str]) -> dict[str, Received]:
        found: dict[str, Received] = await real(upload_ids)
        return {
            upload_id: each._replace(changed_at=each.changed_at - ages.get(upload_id, 0))
            for upload_id, each in found.items()
        }

    partials.received = received
    # That of S3 passes over uploads that have begun a short time ago.
    partials._unchanged_since = partial(Partials._unchanged_since, partials)


def unfinished(tmp_path: Path) -> list[str]:
    """Return the files of uploads in progress, without the lock of a sweep at the moment."""
    names = stores.left(tmp_path / "data", "uploads", "parts")
    return [name for name in names if name != "sweep.lock"]
