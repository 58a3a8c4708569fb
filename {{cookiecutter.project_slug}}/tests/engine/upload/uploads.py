"""Shared by the tests of uploads: raw requests, digests, and remaining parts."""

import asyncio
import base64
import hashlib
from pathlib import Path

from .. import stores
from ..peer import PATIENCE
from ..service import Service


def sha256(data: bytes) -> str:
    """Return a digest to compare instead of a large body, which a failure would print."""
    return hashlib.sha256(data).hexdigest()


def digest(algorithm: str, data: bytes) -> str:
    value = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(value).decode()}:"


def head(length: int, *headers: str) -> bytes:
    lines = ["POST /files?filename=f HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def left_behind(tmp_path: Path) -> list[str]:
    """Return the files of uploads in progress."""
    return stores.left(tmp_path / "data", "parts")


async def swept(service: Service, tmp_path: Path) -> None:
    """Sweep a bucket until nothing is left of a process that has died, when its leases have ended.

    In a directory, its locks have ended with it, and its files were removed at the start.
    """
    async with asyncio.timeout(PATIENCE):
        while stores.SERVER and left_behind(tmp_path):
            await service.in_server(service.app.state.storage.sweep())
            await asyncio.sleep(0.1)
