"""The ZIP format of archives: where each byte is, before a file is read.

Files are stored, not compressed. The header of a file has its CRC-32 and its size, because readers
that cannot seek need both: Java's ZipInputStream, for example. In an entry that is `late` they
follow the file, in a data descriptor. Sizes and offsets of 2^32 - 1 or more, and 65,535 or more
entries, use ZIP64.

The format is implemented here because the library that predicts the length (zipstream-ng) reads
synchronous iterables: it would need a thread that waits for each chunk of the asynchronous store.

Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

#: A field with its maximum refers to the ZIP64 field (section 4.4.1.4).
_MAX_16 = 0xFFFF
_MAX_32 = 0xFFFFFFFF
#: Versions of the format that a reader needs, in tenths (section 4.4.3.2).
_VERSION = 20
_ZIP64_VERSION = 45
#: Made on Unix, so that the attributes are a mode: a file, readable by all (4.4.2, 4.4.15).
_MADE_BY = 3 << 8 | _ZIP64_VERSION
_ATTRIBUTES = 0o100644 << 16
#: A data descriptor follows; the name is UTF-8 (bits 3 and 11; section 4.4.4).
_LATE = 1 << 3
_UTF_8 = 1 << 11
_STORED = 0
#: The range of timestamps (section 4.4.6).
_FIRST = datetime(1980, 1, 1, tzinfo=UTC)
_LAST = datetime(2107, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(slots=True)
class Entry:
    """A file of an archive, `size` bytes long, whose header is at `offset`.

    `crc` must be known before the header is made, except if the entry is `late`, and before the
    descriptor and the listing.
    """

    id: str
    name: str
    size: int
    modified: datetime
    offset: int
    late: bool = False
    crc: int | None = None

    @property
    def start(self) -> int:
        """The place of the first byte of the file."""
        return self.offset + 30 + len(self.name.encode()) + (20 if self.size >= _MAX_32 else 0)

    @property
    def stop(self) -> int:
        """The place after the file and its descriptor."""
        return self.start + self.size + len(self.descriptor())

    def header(self) -> bytes:
        """Return the bytes before the file (section 4.3.7)."""
        crc, size = (0, 0) if self.late else (self.crc or 0, self.size)
        extra = _zip64(size, size) if self.size >= _MAX_32 else b""
        fields = self._fields(crc, _MAX_32 if extra else size, extra)
        return b"PK\3\4" + fields + self.name.encode() + extra

    def descriptor(self) -> bytes:
        """Return the bytes after the file (section 4.3.9); none unless it is `late`."""
        if not self.late:
            return b""
        layout = "<4sLQQ" if self.size >= _MAX_32 else "<4s3L"
        return struct.pack(layout, b"PK\7\x08", self.crc or 0, self.size, self.size)

    def listing(self) -> bytes:
        """Return the entry of the central directory (section 4.3.12)."""
        sizes = (self.size, self.size) if self.size >= _MAX_32 else ()
        extra = _zip64(*sizes, *((self.offset,) if self.offset >= _MAX_32 else ()))
        made_by = struct.pack("<H", _MADE_BY)
        fields = self._fields(self.crc or 0, min(self.size, _MAX_32), extra)
        rest = struct.pack("<3H2L", 0, 0, 0, _ATTRIBUTES, min(self.offset, _MAX_32))
        return b"PK\1\2" + made_by + fields + rest + self.name.encode() + extra

    def _fields(self, crc: int, size: int, extra: bytes) -> bytes:
        """Return the fields that are in the header and in the central directory."""
        version = _ZIP64_VERSION if extra else _VERSION
        flags = _UTF_8 | (_LATE if self.late else 0)
        time, date = _dos_time(self.modified)
        lengths = len(self.name.encode()), len(extra)
        return struct.pack(
            "<5H3L2H", version, flags, _STORED, time, date, crc, size, size, *lengths
        )


def end_of_archive(count: int, size: int, offset: int) -> bytes:
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
