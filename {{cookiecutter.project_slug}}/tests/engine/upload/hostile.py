"""Shared by the tests of hostile forms: how to write, send and read back a form."""

import asyncio
from typing import Any

import pytest

from ..service import Service
from ..storage.stored import bytes_of, files

#: The names and bytes of the stored files and their metadata; or the status of the response.
Outcome = tuple[list[tuple[str, bytes]], dict[str, str]] | int


def file(name: str, *lines: str) -> str:
    """Return the headers of a file, with the empty line after them."""
    disposition = f'Content-Disposition: form-data; name="f"; filename="{name}"'
    return "\n".join([disposition, *lines, "\n"])


def field(name: str, *lines: str) -> str:
    return "\n".join([f'Content-Disposition: form-data; name="{name}"', *lines, "\n"])


def form(*texts: str | bytes) -> bytes:
    """Return a form as bytes: lines of the text end with CRLF, and `|` is a bare LF."""
    return b"".join(
        text.replace("\n", "\r\n").replace("|", "\n").encode() if isinstance(text, str) else text
        for text in texts
    )


def rows(table: dict[str, Any], *marks: Any) -> list[Any]:
    """Return the rows of a table as test parameters."""
    return [pytest.param(*row, id=name, marks=marks) for name, row in table.items()]


def stored(*named: tuple[str, bytes], **metadata: str) -> Outcome:
    return list(named), metadata


async def outcome_of(
    service: Service, body: bytes, content_type: str, *, bytewise: bool = False
) -> Outcome:
    """Send a form, whole or byte by byte, and return the stored files."""
    step = 1 if bytewise else len(body) or 1
    head = f"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    async with service.raw_connection() as peer:
        await peer.send(f"{head}Content-Type: {content_type}\r\n\r\n".encode())
        for start in range(0, len(body), step):
            await peer.send(body[start : start + step])
            await asyncio.sleep(0)
        status = int((await peer.read_head())[9:12])
    kept: list[Any] = await files(service)
    if status != 201:
        assert kept == []
        return status
    read = [(record.filename, await bytes_of(service, record.id)) for record in kept]
    assert all(record.metadata == kept[0].metadata for record in kept)
    return read, kept[0].metadata
