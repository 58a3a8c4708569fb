"""A stored file and its digest, for tests of downloads with real clients."""

import hashlib
import json
import os
from contextlib import closing
from http.client import HTTPConnection
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

SOAK = int(os.environ.get("SOAK", "1"))
#: Maximum seconds for one run of a client on a busy machine.
PATIENCE = 60 * (SOAK + 1)


class Stored(NamedTuple):
    """A stored file, and the SHA-256 of its bytes."""

    id: str
    digest: str


def store(port: int, path: Path, name: str = "", media_type: str = "video/mp4") -> Stored:
    """Upload a file to a service."""
    fields = {"Content-Type": media_type, "Content-Length": str(path.stat().st_size)}
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with path.open("rb") as source, closing(connection):
        connection.request("POST", f"/files?filename={quote(name or path.name)}", source, fields)
        record = json.load(connection.getresponse())
    return Stored(record["id"], sha256_of(path.open("rb")))


def sha256_of(source: BufferedIOBase) -> str:
    with source:
        return hashlib.file_digest(source, "sha256").hexdigest()
