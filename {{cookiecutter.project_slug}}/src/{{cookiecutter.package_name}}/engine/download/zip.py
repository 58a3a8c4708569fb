"""A ZIP archive that is written in one pass, and whose length is known before the first byte.

Files are stored, not compressed. Their CRC-32 is known only behind their bytes, so it follows them
in a data descriptor; what is larger than 32 bits can say is told the ZIP64 way, and only that.
What reads an archive without seeking may not take this: Java's ZipInputStream does not.

Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

import struct
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from zlib import crc32

#: A field with its largest value says: look into the ZIP64 one (section 4.4.1.4).
_MAX_16 = 0xFFFF
_MAX_32 = 0xFFFFFFFF

#: Versions of the format that a reader must know, in tenths (section 4.4.3.2).
_VERSION = 20
_ZIP64_VERSION = 45
#: Made by a Unix, which makes the attributes a mode: a file, readable by all (4.4.2, 4.4.15).
_MADE_BY = 3 << 8 | _ZIP64_VERSION
_ATTRIBUTES = 0o100644 << 16
#: A data descriptor follows (bit 3); the name is UTF-8 (bit 11; section 4.4.4).
_FLAGS = 1 << 3 | 1 << 11
_STORED = 0

#: Small files leave together: a chunk costs more than its bytes do.
_BATCH = 64 << 10

_FIRST = datetime(1980, 1, 1, tzinfo=UTC)
_LAST = datetime(2107, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the archive: its name there, its size in bytes, and its time."""

    name: str
    size: int
    modified: datetime

    def header(self) -> bytes:
        """Return what comes before the bytes (section 4.3.7); the descriptor has the numbers."""
        large = self.size >= _MAX_32
        extra = _zip64(0, 0) if large else b""
        fields = self._fields(0, _MAX_32 if large else 0, extra)
        return b"PK\3\4" + fields + self.name.encode() + extra

    def descriptor(self, crc: int) -> bytes:
        """Return what comes behind the bytes (section 4.3.9)."""
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
        """Return the part that both headers have."""
        return struct.pack(
            "<5H3L2H",
            _ZIP64_VERSION if extra else _VERSION,
            _FLAGS,
            _STORED,
            *_dos_time(self.modified),
            crc,
            size,
            size,
            len(self.name.encode()),
            len(extra),
        )


def archive_size(entries: Sequence[Entry]) -> int:
    """Return the bytes that an archive of these entries will have."""
    offset = directory = 0
    for entry in entries:
        directory += len(entry.listing(0, offset))
        offset += len(entry.header()) + entry.size + len(entry.descriptor(0))
    return offset + directory + len(_end(len(entries), directory, offset))


async def archive(
    files: Iterable[tuple[Entry, AsyncGenerator[bytes]]],
) -> AsyncGenerator[bytes]:
    """Yield the archive of entries and their bytes; each file is begun when the last has ended."""
    directory: list[bytes] = []
    offset = held = 0
    batch: list[bytes] = []
    yield b""  # The response may begin, and to HEAD end, before a file is read.
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
        behind = entry.descriptor(crc)
        batch.append(behind)
        directory.append(entry.listing(crc, offset))
        offset += len(header) + entry.size + len(behind)
    size = sum(map(len, directory))
    yield b"".join([*batch, *directory, _end(len(directory), size, offset)])


def _end(count: int, size: int, offset: int) -> bytes:
    """Return what closes an archive: where its central directory is (sections 4.3.14 to 4.3.16)."""
    end = struct.pack(
        "<4s4H2LH",
        b"PK\5\6",
        0,
        0,
        min(count, _MAX_16),
        min(count, _MAX_16),
        min(size, _MAX_32),
        min(offset, _MAX_32),
        0,
    )
    if count < _MAX_16 and size < _MAX_32 and offset < _MAX_32:
        return end
    versions = _MADE_BY, _ZIP64_VERSION
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, *versions, 0, 0, count, count, size, offset)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1) + end


def _zip64(*values: int) -> bytes:
    """Return the extra field for values that need 64 bits (section 4.5.3); nothing for none."""
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""


def _dos_time(moment: datetime) -> tuple[int, int]:
    """Return time and date in UTC, in steps of two seconds from 1980 to 2107 (section 4.4.6)."""
    at = min(max(moment, _FIRST), _LAST).astimezone(UTC)
    time = at.hour << 11 | at.minute << 5 | at.second // 2
    return time, at.year - 1980 << 9 | at.month << 5 | at.day
