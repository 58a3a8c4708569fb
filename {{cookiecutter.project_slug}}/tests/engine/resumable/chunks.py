"""A tus client that sends a chunk in steps, and may stall or leave within it."""

import base64
import hashlib
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import NamedTuple

from ..peer import Peer
from .tus import patch_head

CONTENT = random.Random(0).randbytes(3 << 20)
WRONG = bytes(byte ^ 0xFF for byte in CONTENT)


class Chunk(NamedTuple):
    """The bytes of a request; `check` is the kind of its checksum, valid or wrong."""

    size: int
    check: str
    chunked: bool


def check_fields(check: str, start: int, size: int) -> dict[str, str]:
    value = base64.b64encode(hashlib.sha256(CONTENT[start : start + size]).digest()).decode()
    return {} if check == "none" else {"Upload-Checksum": f"sha256 {value}"}


@dataclass
class Sending:
    """A PATCH with an incomplete body."""

    stack: AsyncExitStack
    peer: Peer
    url: str
    start: int
    promised: int
    chunk: Chunk
    rest: bytes

    async def begin(self) -> None:
        fields = check_fields(self.chunk.check, self.start, self.chunk.size)
        if self.chunk.chunked:
            fields["Transfer-Encoding"] = "chunked"
        else:
            fields["Content-Length"] = str(self.chunk.size)
        lines = (f"{name}: {value}" for name, value in fields.items())
        await self.peer.send(patch_head(self.url, self.start, *lines))

    async def send(self, count: int) -> None:
        piece, self.rest = self.rest[:count], self.rest[count:]
        if piece and self.chunk.chunked:
            piece = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        await self.peer.send(piece)

    async def end(self) -> tuple[int, int]:
        """Send the rest; return the status and offset of the response, 0 without one."""
        try:
            await self.send(len(self.rest))
            await self.peer.send(b"0\r\n\r\n" if self.chunk.chunked else b"")
            lines = (await self.peer.read_head()).decode().lower().split("\r\n")
        except (EOFError, ConnectionError):
            return 0, 0
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), int(fields.get("upload-offset", -1))
