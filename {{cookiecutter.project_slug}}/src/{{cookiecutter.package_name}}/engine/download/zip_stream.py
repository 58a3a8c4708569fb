"""The bytes of an archive: files of the store between the headers of the ZIP format.

An archive of the same files always has the same bytes, so a range of it can be sent without those
before. That needs the CRC-32 of every file. It is computed when a file is first archived, and kept
in its record: computing it during every upload increases their CPU time by a quarter.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from hashlib import sha256
from zlib import crc32

from ..kernel.threads import complete
from ..storage.interface import Storage
from ..storage.records import FileRecord
from .ranges import ByteRange
from .zip_format import Entry, end_of_archive

#: Bytes of files without a CRC-32 that one request reads before it sends them. The client receives
#: nothing meanwhile, so the CRC-32 of further files is computed while they are sent.
AHEAD = 256 << 20
#: Bytes of a file that stays in memory between its CRC-32 and its sending.
HELD = 1 << 20
#: Files of up to SMALL bytes are read together: up to GROUP of them, with GROUP_BYTES bytes.
SMALL = 64 << 10
GROUP = 64
GROUP_BYTES = 256 << 10
#: The number of computed values, and the bytes of a file, after which they are saved.
UNSAVED = 200
LARGE = 16 << 20
#: Bytes of small files that are sent as one chunk: a chunk costs more than its bytes.
_BATCH = 64 << 10


class Archive:
    """An archive of stored files, in the order in which they are added."""

    def __init__(self, storage: Storage) -> None:
        self.entries: list[Entry] = []
        #: Whether no entry is `late`. Otherwise the bytes differ as soon as each CRC-32 is known.
        self.is_final = True
        self._storage = storage
        self._layout = sha256()
        self._modified = datetime.min.replace(tzinfo=UTC)
        #: The place after the files, and the size of the central directory.
        self._stop = self._directory_size = 0
        self._directory = b""
        self._ahead = 0
        self._held: dict[str, bytes] = {}
        self._unsaved: dict[str, int] = {}

    def add(self, record: FileRecord, name: str) -> None:
        """Append a file under a unique name."""
        entry = Entry(record.id, name, record.size, record.created_at, self._stop)
        if record.crc32 is None:
            self._ahead += record.size
            entry.late = self._ahead > AHEAD
            self.is_final = self.is_final and not entry.late
        listing = entry.listing()
        self._layout.update(record.id.encode() + listing)
        self._directory_size += len(listing)
        self._stop = entry.stop
        self._modified = max(self._modified, record.created_at)
        entry.crc = record.crc32
        self.entries.append(entry)

    def record(self) -> FileRecord:
        """Return the archive as a file: its size, and an ETag of its files and their layout."""
        end = end_of_archive(len(self.entries), self._directory_size, self._stop)
        return FileRecord(
            id=self._layout.hexdigest(),
            filename="archive.zip",
            size=self._stop + self._directory_size + len(end),
            created_at=self._modified,
        )

    async def stream(self, pieces: Sequence[bytes | ByteRange]) -> AsyncGenerator[bytes]:
        """Yield pieces: bytes as they are, and ranges of the archive."""
        yield b""  # The response can begin, and for HEAD end, before a file is read.
        batch: list[bytes] = []
        held = 0
        for piece in pieces:
            if isinstance(piece, bytes):
                batch.append(piece)
                continue
            async with aclosing(self._range(piece.start, piece.stop)) as chunks:
                async for chunk in chunks:
                    held += len(chunk)
                    if held >= _BATCH:
                        yield b"".join(batch)
                        yield chunk
                        batch, held = [], 0
                    else:
                        batch.append(chunk)
        yield b"".join(batch)

    async def _range(self, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` up to `stop` (exclusive)."""
        first = bisect_right(self.entries, start, key=lambda entry: entry.stop)
        try:
            for number in range(first, len(self.entries)):
                if self.entries[number].offset >= stop:
                    return
                await self._read_group(number, stop)
                async with aclosing(self._entry(self.entries[number], start, stop)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            if stop > self._stop:
                yield _within(await self._end(), self._stop, start, stop)
        finally:
            await complete(self._save())

    async def _entry(self, entry: Entry, start: int, stop: int) -> AsyncGenerator[bytes]:
        if start < entry.start:
            if not entry.late:
                await self._check(entry, hold=stop > entry.start)
            yield _within(entry.header(), entry.offset, start, stop)
        first, last = max(start - entry.start, 0), min(stop - entry.start, entry.size)
        held = self._held.pop(entry.id, None)
        if held is not None:
            yield held[first : max(last, 0)]
        elif first < last:
            crc = 0
            async with aclosing(self._storage.read(entry.id, first, last)) as chunks:
                async for chunk in chunks:
                    if entry.late:
                        crc = crc32(chunk, crc)
                    yield chunk
            if entry.late:
                await self._set_crc(entry, crc)
        yield _within(entry.descriptor(), entry.start + entry.size, start, stop)

    async def _end(self) -> bytes:
        """Return the central directory and the end of the archive."""
        if not self._directory:
            for entry in self.entries:
                await self._check(entry)
            directory = b"".join([entry.listing() for entry in self.entries])
            end = end_of_archive(len(self.entries), len(directory), self._stop)
            self._directory = directory + end
        return self._directory

    async def _read_group(self, first: int, stop: int) -> None:
        """Read small files together, from an entry on that has not been read, up to `stop`."""
        group: list[Entry] = []
        left = GROUP_BYTES
        for entry in self.entries[first : first + GROUP]:
            left -= entry.size
            if entry.id in self._held or entry.size > SMALL or left < 0 or entry.offset >= stop:
                break
            group.append(entry)
        if group:
            files = [(entry.id, entry.size) for entry in group]
            for entry, data in zip(group, await self._storage.read_small(files), strict=True):
                self._held[entry.id] = data
                if entry.crc is None:
                    await self._set_crc(entry, crc32(data))

    async def _check(self, entry: Entry, *, hold: bool = False) -> None:
        """Read a file whose CRC-32 is not known; `hold` keeps up to HELD bytes in memory."""
        if entry.crc is not None:
            return
        crc, held = 0, []
        async with aclosing(self._storage.read(entry.id, 0, entry.size)) as chunks:
            async for chunk in chunks:
                crc = crc32(chunk, crc)
                if hold and entry.size <= HELD:
                    held.append(chunk)
                await asyncio.sleep(0)  # Nothing is sent meanwhile, so this is the only pause.
        if held:
            self._held[entry.id] = b"".join(held)
        await self._set_crc(entry, crc)

    async def _set_crc(self, entry: Entry, crc: int) -> None:
        entry.crc = self._unsaved[entry.id] = crc
        if entry.size >= LARGE or len(self._unsaved) >= UNSAVED:
            await self._save()

    async def _save(self) -> None:
        """Keep the computed values, so that the next archive of these files need not read them."""
        values, self._unsaved = self._unsaved, {}
        if values:
            await self._storage.keep_crc32(values)


def _within(data: bytes, offset: int, start: int, stop: int) -> bytes:
    """Return the bytes of `data`, which begins at `offset`, that are in a range."""
    return data[max(start - offset, 0) : max(stop - offset, 0)]
