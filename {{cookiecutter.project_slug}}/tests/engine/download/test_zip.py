"""The ZIP format: other programs read the archives, and the length is predicted."""

import io
import os
import random
import shutil
import zlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import anyio
import pytest

from {{cookiecutter.package_name}}.engine.download import zip_stream
from {{cookiecutter.package_name}}.engine.download.ranges import ByteRange
from {{cookiecutter.package_name}}.engine.download.zip_stream import Archive
from {{cookiecutter.package_name}}.engine.storage import FileRecord

from ..service import SOAK

NOW = datetime(2026, 9, 30, 12, 34, 56, tzinfo=UTC)
LIMIT = 0xFFFFFFFF
ZIP64_RECORD = b"PK\6\6"
ZEROS = bytes(1 << 20)
PROGRAMS = ["unzip -t", "zip -sf", "bsdtar -tvf", "7z t", "jar -tf"]

needs_holes = pytest.mark.skipif(os.name == "nt", reason="Windows writes sparse files completely")


class Bodies:
    """A store of the chunks of files, by id; `read_ids` are the files that were read, in order."""

    def __init__(self, **chunks: Sequence[bytes]) -> None:
        self.chunks = chunks
        self.kept: dict[str, int] = {}
        self.read_ids: list[str] = []

    async def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        self.read_ids.append(file_id)
        place = 0
        for chunk in self.chunks[file_id]:
            if part := chunk[max(start - place, 0) : max(stop - place, 0)]:
                yield part if len(part) < len(chunk) else chunk
            place += len(chunk)

    async def read_small(self, files: Sequence[tuple[str, int]]) -> list[bytes]:
        self.read_ids += [file_id for file_id, _ in files]
        return [b"".join(self.chunks[file_id]) for file_id, _ in files]

    async def keep_crc32(self, values: Mapping[str, int]) -> None:
        self.kept.update(values)


def record(
    file_id: str, size: int, crc: int | None = None, created_at: datetime = NOW
) -> FileRecord:
    return FileRecord(id=file_id, filename="", size=size, created_at=created_at, crc32=crc)


def archive_of(contents: Mapping[str, bytes], *, known: bool = False) -> tuple[Archive, Bodies]:
    """Return an archive of files by name; `known` is whether their CRC-32 is."""
    bodies = Bodies(**{name: [data] for name, data in contents.items()})
    archive = Archive(cast("Any", bodies))
    for name, data in contents.items():
        archive.add(record(name, len(data), zlib.crc32(data) if known else None), name)
    return archive, bodies


async def sent(archive: Archive, *ranges: tuple[int, int]) -> bytes:
    pieces = [ByteRange(*each) for each in ranges or [(0, archive.record().size)]]
    return b"".join([chunk async for chunk in archive.stream(pieces)])


@pytest.fixture
def all_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CRC-32 is computed before its file is sent."""
    monkeypatch.setattr(zip_stream, "AHEAD", -1)


async def assert_readable(path: Path, command: str) -> None:
    """Test an archive with a program; skip the test if it is not installed."""
    program, *arguments = command.split()
    if (found := shutil.which(program)) is None:
        pytest.skip(f"{program} is not installed")
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # bsdtar needs it for these names.
    done = await anyio.run_process([found, *arguments, str(path)], check=False, env=environment)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("ahead", [1 << 30, 100_000, -1])
@pytest.mark.parametrize("seed", range(10 * SOAK))
async def test_the_length_is_what_was_predicted(
    monkeypatch: pytest.MonkeyPatch, seed: int, ahead: int
) -> None:
    monkeypatch.setattr(zip_stream, "AHEAD", ahead)
    chance = random.Random(seed)
    contents = {
        "".join(chance.choices("aZ09 ._-éß日🎉", k=chance.randint(1, 60))) + str(number): (
            chance.randbytes(chance.choice([0, 1, chance.randint(2, 5000), 100_000]))
        )
        for number in range(chance.choice([0, 1, 2, 30]))
    }
    archive, bodies = archive_of(contents)
    data = await sent(archive)

    assert len(data) == archive.record().size
    assert bodies.kept == {name: zlib.crc32(content) for name, content in contents.items()}
    assert not data[-98:].startswith(ZIP64_RECORD)
    with ZipFile(io.BytesIO(data)) as reader:
        assert reader.testzip() is None
        assert {info.filename: reader.read(info) for info in reader.infolist()} == contents


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (NOW, (2026, 9, 30, 12, 34, 56)),
        (NOW + timedelta(seconds=1), (2026, 9, 30, 12, 34, 56)),
        (datetime.fromisoformat("2026-01-01T01:00:00+02:00"), (2025, 12, 31, 23, 0, 0)),
        (datetime(1970, 1, 1, tzinfo=UTC), (1980, 1, 1, 0, 0, 0)),
        (datetime(2500, 1, 1, tzinfo=UTC), (2107, 12, 31, 23, 59, 58)),
    ],
)
async def test_times_are_utc_within_what_the_format_can_say(
    moment: datetime, expected: tuple[int, ...]
) -> None:
    archive = Archive(cast("Any", Bodies(a=[])))
    archive.add(record("a", 0, created_at=moment), "a")

    with ZipFile(io.BytesIO(await sent(archive))) as reader:
        assert reader.getinfo("a").date_time == expected


async def test_whoever_unpacks_a_file_may_read_it() -> None:
    archive, _ = archive_of({"a": b"a"})
    with ZipFile(io.BytesIO(await sent(archive))) as reader:
        [info] = reader.infolist()

    unix = 3
    assert (info.create_system, oct(info.external_attr >> 16)) == (unix, "0o100644")


def large_archive(sizes: list[int], *, known: bool) -> Archive:
    """Return an archive of files of zeros, of which one chunk is sent, and a small one."""
    bodies = Bodies(last=[b"last"], **{str(number): [ZEROS] for number in range(len(sizes))})
    archive = Archive(cast("Any", bodies))
    for number, size in enumerate(sizes):
        archive.add(record(str(number), size, 0 if known else None), f"{number}.bin")
    archive.add(record("last", 4, zlib.crc32(b"last")), "last.txt")
    return archive


async def write_with_holes(archive: Archive, path: Path, sizes: list[int]) -> None:
    """Write an archive as a sparse file: each chunk of zeros stands for the next of the sizes."""
    holes = iter(sizes)
    with path.open("wb") as file:
        async for chunk in archive.stream([ByteRange(0, archive.record().size)]):
            if chunk is ZEROS:
                file.seek(next(holes), os.SEEK_CUR)
            else:
                file.write(chunk)


@needs_holes
@pytest.mark.parametrize(
    ("known", "sizes", "versions"),
    [
        (False, [LIMIT - 52], [20, 20]),
        (False, [LIMIT - 51], [20, 45]),  # The second file begins at LIMIT.
        (True, [LIMIT - 36], [20, 20]),
        (True, [LIMIT - 35], [20, 45]),
        (True, [LIMIT - 34], [20, 45]),
        *((known, [LIMIT - 1], [20, 45]) for known in (True, False)),
        *((known, [LIMIT], [45, 45]) for known in (True, False)),
        *((known, [LIMIT + 1], [45, 45]) for known in (True, False)),
        *((known, [3 << 30, 3 << 30, 9 << 30], [20, 20, 45, 45]) for known in (True, False)),
        *((known, [1 << 40, 1 << 30], [45, 45, 45]) for known in (True, False)),
    ],
)
async def test_what_needs_64_bits_gets_them_and_nothing_else(
    tmp_path: Path, known: bool, sizes: list[int], versions: list[int]
) -> None:
    archive, path = large_archive(sizes, known=known), tmp_path / "large.zip"
    await write_with_holes(archive, path, sizes)

    assert path.stat().st_size == archive.record().size
    with ZipFile(path) as reader:
        assert reader.read("last.txt") == b"last"
        reader.open("0.bin").close()  # Reads its header.
        infos = reader.infolist()
    assert [info.file_size for info in infos] == [*sizes, 4]
    assert [info.compress_size for info in infos] == [*sizes, 4]
    assert [info.extract_version for info in infos] == versions


@needs_holes
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
async def test_a_directory_at_exactly_32_bits_is_found(
    tmp_path: Path, known: bool, beyond: int
) -> None:
    """A reader takes 0xFFFFFFFF as a reference to the ZIP64 record (APPNOTE 4.3.14)."""
    headers = 35 + (0 if known else 16) + 30 + len("last.txt") + 4
    sizes = [LIMIT + beyond - headers]
    archive, path = large_archive(sizes, known=known), tmp_path / "large.zip"
    await write_with_holes(archive, path, sizes)

    assert tail(path).startswith(ZIP64_RECORD) == (beyond >= 0)
    with ZipFile(path) as reader:
        assert reader.start_dir == LIMIT + beyond
        assert reader.read("last.txt") == b"last"


def tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-98, os.SEEK_END)
        return file.read()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("size", "extra", "descriptor"), [(LIMIT - 1, 0, 16), (LIMIT, 20, 24)])
def test_only_a_large_file_has_large_fields(
    size: int, extra: int, descriptor: int, known: bool
) -> None:
    archive = Archive(cast("Any", Bodies()))
    archive.add(record("a", size, 0 if known else None), "a")
    [entry] = archive.entries

    assert len(entry.header()) == entry.start == 31 + extra
    assert len(entry.descriptor()) == (0 if known else descriptor)


@pytest.mark.parametrize("count", [0xFFFE, 0xFFFF, 0x10000])
@pytest.mark.slow
async def test_more_entries_than_16_bits_can_count_are_counted(count: int) -> None:
    archive, _ = archive_of({str(number): b"" for number in range(count)}, known=True)
    data = await sent(archive)

    assert len(data) == archive.record().size

    found = data.rfind(ZIP64_RECORD)
    with ZipFile(io.BytesIO(data)) as reader:
        assert len(reader.infolist()) == count
    if count < 0xFFFF:
        assert found < 0
        assert int.from_bytes(data[-12:-10], "little") == count
    else:
        assert int.from_bytes(data[found + 32 : found + 40], "little") == count
        assert int.from_bytes(data[-34:-26], "little") == found


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("command", PROGRAMS)
async def test_other_programs_find_nothing_wrong(
    tmp_path: Path, command: str, late: bool, request: pytest.FixtureRequest
) -> None:
    if late:
        request.getfixturevalue("all_late")
    path = tmp_path / "a.zip"
    contents = {"a.txt": b"a" * 5000, "日本 🎉.bin": random.randbytes(70_000), "empty": b""}
    archive, _ = archive_of(contents)
    path.write_bytes(await sent(archive))

    assert archive.is_final is not late
    await assert_readable(path, command)


@needs_holes
@pytest.mark.parametrize("command", [*PROGRAMS, "python3 -m zipfile -t"])
async def test_other_programs_read_a_large_one(tmp_path: Path, command: str) -> None:
    """With SOAK=20 the archive is larger than 4 GiB."""
    path = tmp_path / "large.zip"
    count = min(4097, 11 * SOAK * SOAK)
    archive = Archive(cast("Any", Bodies(large=[ZEROS] * count, last=[b"last"])))
    archive.add(record("large", count * len(ZEROS)), "large")
    archive.add(record("last", 4), "last")
    await write_with_holes(archive, path, [len(ZEROS)] * count)

    await assert_readable(path, command)


@pytest.mark.fault("G26")
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seed", range(10 * SOAK))
async def test_a_range_is_a_part_of_the_whole_archive(seed: int, known: bool) -> None:
    chance = random.Random(seed)
    sizes = [0, 1, 50, 70_000, 200_000, 1_500_000]
    contents = {
        str(number): chance.randbytes(chance.choice(sizes))
        for number in range(chance.choice([1, 2, 9]))
    }
    archive, _ = archive_of(contents)
    whole = await sent(archive)
    near = {0, len(whole)} | {
        min(max(place + chance.randint(-2, 2), 0), len(whole))
        for entry in archive.entries
        for place in (entry.offset, entry.start, entry.stop)
    }
    for _ in range(20):
        start, stop = sorted(chance.sample(sorted(near), 2))
        again, _ = archive_of(contents, known=known)
        assert await sent(again, (start, stop)) == whole[start:stop]
        assert await sent(again, (start, stop), (0, 9)) == whole[start:stop] + whole[:9]


@pytest.mark.fault("G26")
async def test_a_range_does_not_read_what_is_before_it() -> None:
    contents = {name: name.encode() * 100_000 for name in "abcd"}
    archive, _ = archive_of(contents)
    whole = await sent(archive)
    again, bodies = archive_of(contents, known=True)
    start = again.entries[2].start + 5

    assert await sent(again, (start, len(whole))) == whole[start:]
    assert bodies.read_ids == ["c", "d"]
    assert bodies.kept == {}


@pytest.mark.fault("G26")
async def test_a_file_is_read_once_more_for_its_checksum_and_only_once() -> None:
    contents = {"small": b"s" * 1000, "held": b"h" * 1_000_000, "large": b"l" * 2_000_000}
    archive, bodies = archive_of(contents)
    await sent(archive)
    known, others = archive_of(contents, known=True)
    await sent(known)

    assert bodies.read_ids == ["small", "held", "large", "large"]
    assert others.read_ids == ["small", "held", "large"]
    assert archive.record().etag == known.record().etag


@pytest.mark.bound("15.6")
@pytest.mark.fault("G26")
async def test_what_takes_long_to_read_is_sent_before_its_checksum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zip_stream, "AHEAD", 250_000)
    contents = {name: name.encode() * 100_000 for name in "abcd"}
    archive, bodies = archive_of(contents)
    data = await sent(archive)
    later, _ = archive_of(contents, known=True)

    assert [entry.late for entry in archive.entries] == [False, False, True, True]
    assert (archive.is_final, later.is_final) == (False, True)
    assert archive.record().etag != later.record().etag
    assert bodies.read_ids == ["a", "b", "c", "d"]
    with ZipFile(io.BytesIO(data)) as reader:
        assert reader.testzip() is None


async def test_whoever_leaves_an_archive_closes_the_file_that_is_read() -> None:
    closed = []

    class Watched(Bodies):
        async def read(self, file_id: str, start: int, stop: int) -> AsyncGenerator[bytes]:
            try:
                yield b"begins" * 20_000
                yield b"goes on" * 20_000
            finally:
                closed.append(file_id)

    archive = Archive(cast("Any", Watched()))
    for name in "abc":
        archive.add(record(name, 260_000, 0), name)
    chunks = archive.stream([ByteRange(0, archive.record().size)])
    while not (await anext(chunks)).startswith(b"goes on"):
        pass
    await chunks.aclose()

    assert closed == ["a"]
