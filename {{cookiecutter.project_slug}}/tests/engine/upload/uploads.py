"""What tests of uploads share: bare requests, digests, and a look at what is left behind."""

import base64
import hashlib
from pathlib import Path


def sha256(data: bytes) -> str:
    """Stands for large bodies in an assertion, whose failure would show all of them."""
    return hashlib.sha256(data).hexdigest()


def digest(algorithm: str, data: bytes) -> str:
    value = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(value).decode()}:"


def head(length: int, *headers: str) -> bytes:
    lines = ["POST /files?filename=f HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def left_behind(tmp_path: Path) -> list[str]:
    """Return what lies among the parts: nothing, unless an upload is under way."""
    return sorted(path.name for path in (tmp_path / "data" / "parts").iterdir())
