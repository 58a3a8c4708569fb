"""`GET, HEAD /archive?id=…&id=…`: files as one ZIP archive, created while it is sent.

Files are stored, not compressed, so the length is known before the first byte. The CRC-32 of a file
follows its bytes in a data descriptor. Sizes and offsets of 4 GiB or more use ZIP64. Readers that
cannot seek may not support data descriptors of stored files; Java's ZipInputStream does not.

The format is implemented here because the library that predicts the length (zipstream-ng) reads
synchronous iterables: it would need a thread that waits for each chunk of the asynchronous store.

Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

import re
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Annotated, Any
from zlib import crc32

from fastapi import APIRouter, Query, Request, Response

from ..kernel.fields import combined
from ..kernel.problem import Problem
from ..storage.conditional import Verdict, evaluate
from ..storage.records import MAX_BYTES, FileId, FileRecord, clean_filename
from ..storage.router import StorageDep
from ..streams.pull import ByteStream
from .headers import SAFETY, content_disposition

#: The number of ids that fit into the default `APP_SERVER__MAX_HEADER_SIZE`, 64 KiB.
MAX_FILES = 1000

#: A field with its maximum refers to the ZIP64 field (section 4.4.1.4).
_MAX_16 = 0xFFFF
_MAX_32 = 0xFFFFFFFF
#: Versions of the format that a reader needs, in tenths (section 4.4.3.2).
_VERSION = 20
_ZIP64_VERSION = 45
#: Made on Unix, so that the attributes are a mode: a file, readable by all (4.4.2, 4.4.15).
_MADE_BY = 3 << 8 | _ZIP64_VERSION
_ATTRIBUTES = 0o100644 << 16
#: A data descriptor follows (bit 3); the name is UTF-8 (bit 11; section 4.4.4).
_FLAGS = 1 << 3 | 1 << 11
_STORED = 0
#: The range of timestamps (section 4.4.6).
_FIRST = datetime(1980, 1, 1, tzinfo=UTC)
_LAST = datetime(2107, 12, 31, 23, 59, 59, tzinfo=UTC)
#: Bytes of small files that are sent as one chunk: a chunk costs more than its bytes.
_BATCH = 64 << 10

router = APIRouter()


class ZipStream(ByteStream):
    """A ZIP archive."""

    media_type = "application/zip"


Ids = Annotated[
    list[FileId],
    Query(alias="id", max_length=MAX_FILES, description="In this order; duplicates are ignored."),
]

_RESPONSES: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client has this archive already."},
    404: {"description": "One of the files does not exist."},
    412: {"description": "A precondition failed."},
    431: {"description": "The ids do not fit into a header; without a body.", "content": {}},
}


@router.get("/archive", response_class=ZipStream, responses=_RESPONSES)
async def download_archive(ids: Ids, request: Request, storage: StorageDep) -> Response:
    """Send files as one ZIP archive, uncompressed and with `Content-Length`.

    If a file turns out to be unreadable while the archive is sent, the connection is aborted.
    """
    found = await storage.find(unique := list(dict.fromkeys(ids)))
    for file_id in unique:
        if file_id not in found:
            raise Problem(404, f"There is no file with the id {file_id}.")
    records = [found[file_id] for file_id in unique]
    names = archive_names(record.filename for record in records)
    entries = [
        Entry(name, record.size, record.created_at)
        for name, record in zip(names, records, strict=True)
    ]
    # The archive is as immutable as its files.
    whole = FileRecord(
        id=sha256("".join(unique).encode()).hexdigest(),
        filename="archive.zip",
        size=archive_size(entries),
        created_at=max(record.created_at for record in records),
    )
    caching = {"ETag": whole.etag, "Cache-Control": "private, no-cache"}
    match evaluate(request.method, combined(request.headers), whole, datetime.now(UTC)):
        case Verdict.PRECONDITION_FAILED:
            raise Problem(412)
        case Verdict.NOT_MODIFIED:
            return Response(status_code=304, headers=caching)
    headers = {
        **caching,
        **SAFETY,
        "Accept-Ranges": "none",
        "Content-Disposition": content_disposition(whole.filename),
        "Content-Length": str(whole.size),
    }
    bodies = (storage.read(record.id, 0, record.size) for record in records)
    return ZipStream(archive(zip(entries, bodies, strict=True)), headers=headers)


router.head("/archive", include_in_schema=False)(download_archive)


def archive_names(filenames: Iterable[str]) -> list[str]:
    """Return unique names that every system can unpack: the second `a` becomes `a (1)`.

    Names that differ only in case are not unique: on Windows and macOS they are one file.
    """
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    names = []
    for filename in filenames:
        # Windows reserves these characters; a colon would name another stream of the same file.
        name = unique = re.sub(r'[<>:"|?*]', "_", clean_filename(filename))
        stem, suffix = _numbered_parts(name)
        key = f"{stem}{suffix}".casefold()
        while unique.casefold() in taken:
            numbers[key] += 1
            unique = f"{stem} ({numbers[key]}){suffix}"
        taken.add(unique.casefold())
        names.append(unique)
    return names


def _numbered_parts(name: str) -> tuple[str, str]:
    """Split a name before its extension; with ` (1000)` in between it has at most MAX_BYTES."""
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= 32 else ""
    room = MAX_BYTES - len(suffix.encode()) - len(f" ({MAX_FILES})")
    return name.removesuffix(suffix).encode()[:room].decode(errors="ignore"), suffix


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the archive: its name, its size in bytes, and its time of modification."""

    name: str
    size: int
    modified: datetime

    def header(self) -> bytes:
        """Return the bytes before the data (section 4.3.7), without CRC and sizes."""
        large = self.size >= _MAX_32
        extra = _zip64(0, 0) if large else b""
        fields = self._fields(0, _MAX_32 if large else 0, extra)
        return b"PK\3\4" + fields + self.name.encode() + extra

    def descriptor(self, crc: int) -> bytes:
        """Return the bytes after the data (section 4.3.9)."""
        layout = "<4sLQQ" if self.size >= _MAX_32 else "<4s3L"
        return struct.pack(layout, b"PK\7\x08", crc, self.size, self.size)

    def listing(self, crc: int, offset: int) -> bytes:
        """Return the entry of the central directory (4.3.12); `offset` is that of the header."""
        sizes = (self.size, self.size) if self.size >= _MAX_32 else ()
        extra = _zip64(*sizes, *((offset,) if offset >= _MAX_32 else ()))
        made_by = struct.pack("<H", _MADE_BY)
        fields = self._fields(crc, min(self.size, _MAX_32), extra)
        rest = struct.pack("<3H2L", 0, 0, 0, _ATTRIBUTES, min(offset, _MAX_32))
        return b"PK\1\2" + made_by + fields + rest + self.name.encode() + extra

    def _fields(self, crc: int, size: int, extra: bytes) -> bytes:
        """Return the fields that are in the header and in the central directory."""
        version = _ZIP64_VERSION if extra else _VERSION
        time, date = _dos_time(self.modified)
        lengths = len(self.name.encode()), len(extra)
        return struct.pack(
            "<5H3L2H", version, _FLAGS, _STORED, time, date, crc, size, size, *lengths
        )


def archive_size(entries: Sequence[Entry]) -> int:
    """Return the size in bytes of an archive of these entries."""
    offset = directory = 0
    for entry in entries:
        directory += len(entry.listing(0, offset))
        offset += len(entry.header()) + entry.size + len(entry.descriptor(0))
    return offset + directory + len(_end(len(entries), directory, offset))


async def archive(
    files: Iterable[tuple[Entry, AsyncGenerator[bytes]]],
) -> AsyncGenerator[bytes]:
    """Yield an archive of entries and their bytes; a file is opened after the previous one."""
    directory: list[bytes] = []
    offset = held = 0
    batch: list[bytes] = []
    yield b""  # The response can begin, and for HEAD end, before a file is read.
    for entry, chunks in files:
        header = entry.header()
        batch.append(header)
        crc = 0
        async with aclosing(chunks):
            async for chunk in chunks:
                crc = crc32(chunk, crc)
                held += len(chunk)
                if held >= _BATCH:
                    yield b"".join(batch)
                    yield chunk
                    batch, held = [], 0
                else:
                    batch.append(chunk)
        descriptor = entry.descriptor(crc)
        batch.append(descriptor)
        directory.append(entry.listing(crc, offset))
        offset += len(header) + entry.size + len(descriptor)
    size = sum(map(len, directory))
    yield b"".join([*batch, *directory, _end(len(directory), size, offset)])


def _end(count: int, size: int, offset: int) -> bytes:
    """Return the end of an archive with the place of its central directory (4.3.14 to 4.3.16)."""
    counts = [min(count, _MAX_16)] * 2
    end = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, *counts, min(size, _MAX_32), min(offset, _MAX_32), 0
    )
    if count < _MAX_16 and size < _MAX_32 and offset < _MAX_32:
        return end
    versions = _MADE_BY, _ZIP64_VERSION
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, *versions, 0, 0, count, count, size, offset)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1) + end


def _zip64(*values: int) -> bytes:
    """Return the extra field for values that need 64 bits (section 4.5.3); empty for none."""
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""


def _dos_time(moment: datetime) -> tuple[int, int]:
    """Return time and date in UTC, in steps of two seconds from 1980 to 2107 (section 4.4.6)."""
    at = min(max(moment, _FIRST), _LAST).astimezone(UTC)
    time = at.hour << 11 | at.minute << 5 | at.second // 2
    return time, at.year - 1980 << 9 | at.month << 5 | at.day
