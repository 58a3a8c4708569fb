"""`serve move`: from a directory into a bucket and back, stopped and run again, and damaged."""

import hashlib
import os
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.storage import Draft
from {{cookiecutter.package_name}}.engine.storage.part import open_storage
from {{cookiecutter.package_name}}.engine.storage.s3 import move
from {{cookiecutter.package_name}}.settings import Settings

from ..peer import PATIENCE
from ..service import make_settings
from .faults import FaultProxy
from .servers import BUCKET, client

#: The sizes of some files: empty, small, and in several parts.
SIZES = (0, 10, 70_000, 1 << 20, (11 << 20) + 1)
#: A request that stores a file.
OBJECT = r"PUT .*/files/[0-9a-f]{8}-"
_STATE = "SELECT position, id, record, announced FROM files ORDER BY position"
_LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'files'"


def settings_of(url: str, endpoint_url: str | None) -> Settings:
    return make_settings(storage={"url": url, "endpoint_url": endpoint_url})


async def fill(settings: Settings, sizes: tuple[int, ...] = SIZES) -> list[str]:
    """Store files with everything that a record can have; return their ids."""
    async with open_storage(settings.storage) as storage:
        ids = []
        for number, size in enumerate(sizes):
            draft = Draft(
                filename=f"{number} ä.txt",
                content_type="text/plain; charset=utf-8",
                metadata={"note": "€ \n" * number},
                owner=f"owner-{number}" if number else None,
            )
            data = os.urandom(size)
            digest = (
                {"sha-256": b64encode(hashlib.sha256(data).digest()).decode()}
                if number % 2
                else None
            )
            async with storage.create(draft) as writer:
                await writer.write(data)
                ids.append((await storage.commit(writer, digest)).id)
        await storage.keep_crc32({ids[1]: 1234})
        await storage.catalogue.write("UPDATE files SET announced = 0 WHERE id = ?", ids[2])
        for _ in range(2):  # The last positions were of files that do not exist any more.
            async with storage.create(Draft(filename="deleted.txt")) as writer:
                record = await storage.commit(writer)
            await storage.delete(record.id)
    return ids


async def state_of(settings: Settings) -> tuple[Any, dict[str, str]]:
    """Return the rows of a store, and the SHA-256 of its files, after a sweep."""
    async with open_storage(settings.storage) as storage:
        await storage.sweep()
        rows = await storage.catalogue.read(_STATE), await storage.catalogue.read(_LAST)
        digests = {}
        async with aclosing(storage.records()) as records:
            async for _, record in records:
                async with aclosing(storage.read(record.id, 0, record.size)) as chunks:
                    data = b"".join([chunk async for chunk in chunks])
                digests[record.id] = hashlib.sha256(data).hexdigest()
    return rows, digests


async def run(settings: Settings, *arguments: str) -> Any:
    """Run the command in this process, and return its exit code or reason."""

    def run() -> Any:
        with pytest.raises(SystemExit) as ended:
            create_app(settings).commands["move"](settings, [*arguments])
        return ended.value.code

    return await anyio.to_thread.run_sync(run)


@pytest.fixture
def here(tmp_path: Path, endpoint_url: str) -> Settings:
    return settings_of(f"file:{tmp_path / 'data'}", endpoint_url)


@pytest.fixture
def there(bucket_url: str, endpoint_url: str) -> Settings:
    return settings_of(bucket_url, endpoint_url)


async def test_a_store_moves_into_a_bucket_and_back(
    here: Settings, there: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    back = settings_of(f"file:{tmp_path / 'back'}", there.storage.endpoint_url)
    await fill(here)
    before = await state_of(here)

    assert await run(here, here.storage.url, there.storage.url) == 0
    assert await state_of(there) == before
    assert await run(here, there.storage.url, back.storage.url) == 0
    assert await state_of(back) == before == await state_of(here)

    total = sum(SIZES)
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines
        == [
            f"5 files with {total} bytes copied, 0 were there already,"
            " 0 unfinished uploads are not copied, 0 problems"
        ]
        * 2
    )


async def test_a_second_run_copies_what_is_new(
    here: Settings, there: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(here)
    assert await run(here, here.storage.url, there.storage.url) == 0
    await fill(here, (1, 2, 3))
    assert await run(here, "--verify", here.storage.url, there.storage.url) == 0
    assert "3 files with 6 bytes copied, 5 were there already" in capsys.readouterr().out

    assert await state_of(there) == await state_of(here)


async def test_files_of_the_target_are_kept(here: Settings, there: Settings) -> None:
    await fill(there, (7, 8, 9))
    own = await state_of(there)
    await fill(here)
    moved = await state_of(here)
    assert await run(here, here.storage.url, there.storage.url) == 0

    rows, digests = await state_of(there)
    assert digests == own[1] | moved[1]
    assert [row[1:] for row in rows[0]] == [row[1:] for row in (*own[0][0], *moved[0][0])]


@pytest.mark.slow
async def test_a_killed_run_is_continued(
    here: Settings, there: Settings, endpoint_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It dies after some records were added, while it sends further files."""
    await fill(here, (100,) * (move.FILES + 20))
    with FaultProxy(endpoint_url) as proxy:
        proxy.add(OBJECT, times=move.FILES + 5)
        held = proxy.add(OBJECT, hold_request=True)
        arguments = [sys.executable, "-m", "{{cookiecutter.package_name}}", "move"]
        environment = os.environ | {"APP_STORAGE__ENDPOINT_URL": proxy.url}
        process = subprocess.Popen(
            [*arguments, here.storage.url, there.storage.url],
            env=environment,
            cwd=here.storage.directory.parent,
        )
        await anyio.to_thread.run_sync(held.wait)
        process.kill()
        process.wait(PATIENCE)
    async with open_storage(there.storage) as storage:
        copied = len(await storage.catalogue.read(_STATE))

    assert copied == move.FILES
    assert await run(here, here.storage.url, there.storage.url) == 0
    assert f"20 files with 2000 bytes copied, {copied} were there" in capsys.readouterr().out
    assert await state_of(there) == await state_of(here)


async def test_a_damaged_copy_is_found(
    here: Settings, there: Settings, endpoint_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = await fill(here)
    assert await run(here, here.storage.url, there.storage.url) == 0
    key = f"{there.storage.url.removeprefix(f's3://{BUCKET}/')}/files"
    s3 = client(endpoint_url)
    s3.put_object(Bucket=BUCKET, Key=f"{key}/{ids[1]}", Body=b"x" * SIZES[1])
    s3.delete_object(Bucket=BUCKET, Key=f"{key}/{ids[2]}")
    s3.close()
    capsys.readouterr()

    assert await run(here, "--verify", here.storage.url, there.storage.url) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{ids[1]}: the copy differs: delete it in TO, and run this again",
        f"{ids[2]}: its bytes are missing",
    ]


@pytest.mark.parametrize("of", ["source", "target"])
async def test_a_file_that_is_damaged_on_its_way_gets_no_record(
    of: str,
    here: Settings,
    there: Settings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = await fill(here)
    folder = here.storage.directory / "files"
    if of == "source":
        path = folder / ids[1][-2:] / ids[1]
        path.write_bytes(b"x" * SIZES[1])
        (folder / ids[2][-2:] / ids[2]).unlink()
        with (folder / ids[4][-2:] / ids[4]).open("ab") as file:
            file.truncate(100)
        expected = {ids[1]: "it is damaged in FROM", ids[2]: "its bytes are missing"}
        expected[ids[4]] = "a file is shorter than its record"
    else:
        digest_of = move._digest_of

        async def wrong(storage: Any, record: Any) -> bytes:
            return b"" if record.id == ids[3] else await digest_of(storage, record)

        monkeypatch.setattr(move, "_digest_of", wrong)
        expected = {ids[3]: "the copy differs"}

    assert await run(here, here.storage.url, there.storage.url) == 1
    told = capsys.readouterr()
    assert sorted(told.err.splitlines()) == sorted(f"{key}: {why}" for key, why in expected.items())
    assert f"{5 - len(expected)} files" in told.out
    _, digests = await state_of(there)
    assert {*digests} == {*ids} - {*expected}
    if of == "target":
        monkeypatch.undo()
        assert await run(here, here.storage.url, there.storage.url) == 0
        assert (await state_of(there))[1] == (await state_of(here))[1]


async def test_the_stores_of_a_running_service_do_not_move(here: Settings, there: Settings) -> None:
    await fill(here)
    async with open_storage(here.storage):
        refused = await run(here, here.storage.url, there.storage.url)
        assert refused == f"{here.storage.url}: a process uses it; end it, and run this again"
    async with open_storage(there.storage):
        refused = await run(here, here.storage.url, there.storage.url)
        assert "another process" in refused
    assert await run(here, here.storage.url, there.storage.url) == 0


async def test_an_unusable_bucket_stops_the_run(
    here: Settings, there: Settings, endpoint_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(here, (100,) * 5)
    with FaultProxy(endpoint_url) as proxy:
        proxy.add(OBJECT, times=2)
        proxy.add(OBJECT, status=403)
        unusable = settings_of(here.storage.url, proxy.url)
        assert await run(unusable, here.storage.url, there.storage.url) == 1
    told = capsys.readouterr()
    assert re.fullmatch(r"stopped: .*access is denied.*; run it again to go on\n", told.err)
    assert "0 files" in told.out
    assert await run(here, here.storage.url, there.storage.url) == 0
    assert await state_of(there) == await state_of(here)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda here, there: (here, here), "FROM and TO are the same"),
        (lambda here, there: (there, "ftp://x"), "ftp://x is not `file:` and a path"),
        (lambda here, there: (f"{here}-missing", there), "missing: there is no store"),
    ],
)
async def test_wrong_arguments_end_with_one_line(
    change: Callable[[str, str], tuple[str, str]], reason: str, here: Settings, there: Settings
) -> None:
    assert reason in await run(here, *change(here.storage.url, there.storage.url))
    assert not here.storage.directory.exists()
