"""The ZIP format: other programs read the archives, and the length is predicted."""

import io
import os
import random
import shutil
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import anyio
import pytest

from {{cookiecutter.package_name}}.engine.download.archive import (
    Entry,
    archive,
    archive_size,
)

from ..service import SOAK

NOW = datetime(2026, 9, 30, 12, 34, 56, tzinfo=UTC)
LIMIT = 0xFFFFFFFF
ZIP64_RECORD = b"PK\6\6"
ZEROS = bytes(1 << 20)
PROGRAMS = ["unzip -t", "zip -sf", "bsdtar -tvf", "7z t", "jar -tf"]

needs_holes = pytest.mark.skipif(os.name == "nt", reason="Windows writes sparse files completely")


async def body(*chunks: bytes) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk


async def archive_of(contents: dict[str, bytes]) -> bytes:
    files = [(Entry(name, len(data), NOW), body(data)) for name, data in contents.items()]
    return b"".join([chunk async for chunk in archive(files)])


async def assert_readable(path: Path, command: str) -> None:
    """Test an archive with a program; skip the test if it is not installed."""
    program, *arguments = command.split()
    if (found := shutil.which(program)) is None:
        pytest.skip(f"{program} is not installed")
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # bsdtar needs it for these names.
    done = await anyio.run_process([found, *arguments, str(path)], check=False, env=environment)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", range(20 * SOAK))
async def test_the_length_is_what_was_predicted(seed: int) -> None:
    chance = random.Random(seed)
    contents = {
        "".join(chance.choices("aZ09 ._-éß日🎉", k=chance.randint(1, 60))) + str(number): (
            chance.randbytes(chance.choice([0, 1, chance.randint(2, 5000), 100_000]))
        )
        for number in range(chance.choice([0, 1, 2, 30]))
    }
    data = await archive_of(contents)

    assert len(data) == archive_size([Entry(name, len(c), NOW) for name, c in contents.items()])
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
    data = b"".join([chunk async for chunk in archive([(Entry("a", 0, moment), body())])])

    with ZipFile(io.BytesIO(data)) as reader:
        assert reader.getinfo("a").date_time == expected


async def test_whoever_unpacks_a_file_may_read_it() -> None:
    with ZipFile(io.BytesIO(await archive_of({"a": b"a"}))) as reader:
        [info] = reader.infolist()

    unix = 3
    assert (info.create_system, oct(info.external_attr >> 16)) == (unix, "0o100644")


async def written_with_holes(path: Path, sizes: list[int]) -> list[ZipInfo]:
    """Write an archive of sparse files of these sizes, and a small one after them."""
    entries = [Entry(f"{number}.bin", size, NOW) for number, size in enumerate(sizes)]
    holes = iter(sizes)
    last = Entry("last.txt", 4, NOW)
    files = [*((entry, body(ZEROS)) for entry in entries), (last, body(b"last"))]
    with path.open("wb") as file:
        async for chunk in archive(files):
            if chunk is ZEROS:
                file.seek(next(holes), os.SEEK_CUR)
            else:
                file.write(chunk)
    assert path.stat().st_size == archive_size([*entries, last])
    with ZipFile(path) as reader:
        assert reader.read("last.txt") == b"last"
        reader.open("0.bin").close()  # Reads its header.
        return reader.infolist()


@needs_holes
@pytest.mark.parametrize(
    ("sizes", "versions"),
    [
        ([LIMIT - 52], [20, 20]),
        ([LIMIT - 51], [20, 45]),  # The second file begins at LIMIT.
        ([LIMIT - 1], [20, 45]),
        ([LIMIT], [45, 45]),
        ([LIMIT + 1], [45, 45]),
        ([3 << 30, 3 << 30, 9 << 30], [20, 20, 45, 45]),
        ([1 << 40, 1], [45, 45, 45]),
    ],
)
async def test_what_needs_64_bits_gets_them_and_nothing_else(
    tmp_path: Path, sizes: list[int], versions: list[int]
) -> None:
    infos = await written_with_holes(tmp_path / "large.zip", sizes)

    assert [info.file_size for info in infos] == [*sizes, 4]
    assert [info.compress_size for info in infos] == [*sizes, 4]
    assert [info.extract_version for info in infos] == versions


@pytest.mark.parametrize(("size", "extra", "descriptor"), [(LIMIT - 1, 0, 16), (LIMIT, 20, 24)])
def test_only_a_large_file_has_a_large_descriptor(size: int, extra: int, descriptor: int) -> None:
    entry = Entry("a", size, NOW)

    assert len(entry.header()) == 31 + extra
    assert len(entry.descriptor(0)) == descriptor


@pytest.mark.parametrize("count", [0xFFFE, 0xFFFF])
@pytest.mark.slow
async def test_more_entries_than_16_bits_can_count_are_counted(count: int) -> None:
    data = await archive_of({str(number): b"" for number in range(count)})

    record = data.rfind(ZIP64_RECORD)
    with ZipFile(io.BytesIO(data)) as reader:
        assert len(reader.infolist()) == count
    if count < 0xFFFF:
        assert record < 0
        assert int.from_bytes(data[-12:-10], "little") == count
    else:
        assert int.from_bytes(data[record + 32 : record + 40], "little") == count
        assert int.from_bytes(data[-34:-26], "little") == record


@pytest.mark.parametrize("command", PROGRAMS)
async def test_other_programs_find_nothing_wrong(tmp_path: Path, command: str) -> None:
    path = tmp_path / "a.zip"
    contents = {"a.txt": b"a" * 5000, "日本 🎉.bin": random.randbytes(70_000), "empty": b""}
    path.write_bytes(await archive_of(contents))

    await assert_readable(path, command)


@needs_holes
@pytest.mark.parametrize("command", [*PROGRAMS, "python3 -m zipfile -t"])
async def test_other_programs_read_a_large_one(tmp_path: Path, command: str) -> None:
    """With SOAK=20 the archive is larger than 4 GiB."""
    path = tmp_path / "large.zip"
    count = min(4097, 11 * SOAK * SOAK)
    large = Entry("large", count * len(ZEROS), NOW)
    files = [(large, body(*[ZEROS] * count)), (Entry("last", 4, NOW), body(b"last"))]
    with path.open("wb") as file:
        async for chunk in archive(files):
            if chunk is ZEROS:
                file.seek(len(chunk), os.SEEK_CUR)
            else:
                file.write(chunk)

    await assert_readable(path, command)


async def test_whoever_leaves_an_archive_closes_the_file_that_is_read() -> None:
    closed = []

    async def watched(name: str) -> AsyncGenerator[bytes]:
        try:
            yield b"begins" * 20_000
            yield b"goes on" * 20_000
        finally:
            closed.append(name)

    chunks = archive((Entry(name, 260_000, NOW), watched(name)) for name in "abc")
    while not (await anext(chunks)).startswith(b"goes on"):
        pass
    await chunks.aclose()

    assert closed == ["a"]
