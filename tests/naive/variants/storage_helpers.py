"""Functions that write request bodies; the routers of other modules call them."""

import errno
import hashlib
import os
import shutil
import tempfile
import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import aiofiles
import aiofiles.os
from fastapi.responses import PlainTextResponse, Response

from streaming_kit import publish

PATTERN = "%s/%s"
LOGO = Path(__file__).with_name("logo.png")


def user_path(root: Path, client_name: str) -> str:
    return PATTERN % (root, client_name)  # missed: U6


def old_style_path(root: Path, owner: str, client_name: str) -> Path:
    return root / "{}_{}".format(owner, client_name)  # missed: U6


def display_name(client_name: str | None) -> str:
    """The client's name as metadata only; it is never used as a path."""
    name = unicodedata.normalize("NFC", client_name or "unnamed")
    name = PurePosixPath(name.replace("\\", "/")).name
    name = "".join(c for c in name if c.isprintable())
    return name.encode()[:255].decode(errors="ignore") or "unnamed"


def server_path(root: Path, object_id: str) -> Path:
    if len(object_id) != 32 or not set(object_id) <= set("0123456789abcdef"):
        raise ValueError("not an object id")
    return root / object_id


async def save_stream(destination: Path, stream) -> int:
    """Write an async iterator of bytes to the destination."""
    written = 0
    fh = destination.open("wb")  # trap: U1, U2, U3, U12
    async for block in stream:
        written += fh.write(block)  # trap: U12
    fh.close()
    return written  # trap: U15


async def save_best_effort(destination: Path, stream) -> None:
    with suppress(Exception):  # trap: U5
        async with aiofiles.open(destination, "wb") as fh:  # missed: U1, U2, U3
            async for block in stream:
                await fh.write(block)


async def save_or_report(destination: Path, stream) -> Response:
    try:
        async with aiofiles.open(destination, "xb") as fh:  # missed: U1, U2
            async for block in stream:
                await fh.write(block)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            return PlainTextResponse("the disk is full", status_code=500)  # trap: E5; missed: U4
        raise
    return Response(status_code=201)  # missed: U15


async def save_by_rename(destination: Path, stream) -> None:
    scratch = f"{destination}.tmp"
    async with aiofiles.open(scratch, "wb") as fh:  # missed: U16
        async for block in stream:
            await fh.write(block)
    await aiofiles.os.replace(scratch, destination)  # missed: U15


def spool_to_temp(source: BinaryIO) -> str:
    holder = tempfile.NamedTemporaryFile(delete=False, suffix=".upload")  # missed: U16
    shutil.copyfileobj(source, holder)
    holder.close()
    return holder.name


def spool_and_publish(source: BinaryIO, parts: Path, final: Path, limit: int) -> str:
    """Runs in a worker thread."""
    digest, left = hashlib.sha256(), limit
    holder = tempfile.NamedTemporaryFile(dir=parts, delete=False, suffix=".upload")
    part = Path(holder.name)
    try:
        with holder:
            while block := source.read(1 << 20):
                left -= len(block)
                if left < 0:
                    raise OverflowError("body too large")
                digest.update(block)
                holder.write(block)
        publish(part, final)
    finally:
        part.unlink(missing_ok=True)
    return digest.hexdigest()


def read_logo() -> bytes:
    with open(LOGO, "rb") as fh:
        return fh.read()


def remove_quietly(path: Path) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
