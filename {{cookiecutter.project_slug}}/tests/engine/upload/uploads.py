"""Shared by the tests of uploads: raw requests, digests, and remaining parts."""

import base64
import hashlib
from pathlib import Path

from .. import stores


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
