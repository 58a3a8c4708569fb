"""`serve move FROM TO`: copies a store, such as that of a directory into a bucket, or back.

The bytes of each file are read back and compared before its record is added, in the order of the
records in FROM, and with the same positions if TO was empty. A run that was stopped leaves complete
files only; the next one skips them.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from ...kernel.problem import Problem
from ..base import BaseStorage
from ..interface import Writer
from ..part import check_store, open_storage
from ..records import FileRecord
from ..settings import StorageSettings

#: Files that are copied at the same time, and bytes of these, unless it is one larger file.
FILES, BYTES = 64, 64 << 20
_ROWS = (
    "SELECT position, id, record, announced FROM files WHERE position > ? ORDER BY position LIMIT ?"
)
_KNOWN = "SELECT id FROM files WHERE id IN (SELECT value FROM json_each(?))"
#: Add records at the end; with their positions, if these follow all positions so far.
_ADD = """
INSERT INTO files (position, id, record, announced)
    SELECT CASE WHEN json_extract(?1, '$[0][0]') > (
            SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'files'
        ) THEN json_extract(value, '$[0]') END,
        json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')
    FROM json_each(?1) ORDER BY key
"""
#: The newest cursor of a client may be that of a file that was deleted.
_LAST = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'files'"
_RAISE_LAST = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'files'"
_HAS_UPLOADS = "SELECT 1 FROM sqlite_schema WHERE name = 'uploads'"
_UNFINISHED = (
    "SELECT count(*) FROM uploads WHERE json_extract(state, '$.completed_at') IS NULL"
    " AND json_extract(state, '$.expired_at') IS NULL"
)


class Row(NamedTuple):
    """A record as it is in the database."""

    position: int
    id: str
    record: str
    announced: int


class Differs(Exception):
    """The bytes of a file are wrong."""


@dataclass
class Summary:
    """The counts of a run."""

    copied: int = 0
    size: int = 0
    skipped: int = 0
    problems: int = 0

    def report(self, file_id: str, reason: object) -> None:
        self.problems += 1
        sys.stderr.write(f"{file_id}: {reason}\n")


def move(app: Any, settings: Any, arguments: list[str]) -> None:
    """Run `serve move ARGUMENT…`; exit with 1 if something was not copied."""
    options = _parser().parse_args(arguments)
    source, target = (_with_url(settings, each) for each in (options.source, options.target))
    if source.storage.url == target.storage.url:
        sys.exit("FROM and TO are the same")
    if not _is_bucket(source) and not (source.storage.directory / "catalogue.sqlite3").exists():
        sys.exit(f"{source.storage.url}: there is no store")
    for each in (source, target):
        _check_unused(each)
        check_store(each)
    try:
        problems = asyncio.run(_Move(options.verify).run(source.storage, target.storage))
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"stopped: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: run it again to go on")
    for part in app.parts:
        problems += part.move(source, target)
    for each in (source, target):
        _check_unused(each)
    sys.exit(1 if problems else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve move", description=__doc__)
    parser.add_argument("source", metavar="FROM", help="such as file:./data; it is not changed")
    parser.add_argument("target", metavar="TO", help="such as s3://bucket/prefix")
    parser.add_argument(
        "--verify", action="store_true", help="also compare the files that TO has already"
    )
    return parser


def _with_url(settings: Any, url: str) -> Any:
    """Return the settings for a store that this process has for itself, without quotas."""
    changes = {"url": url, "quota": None, "max_files_per_owner": None, "redis_url": None}
    try:
        storage = StorageSettings.model_validate({**settings.storage.model_dump(), **changes})
    except ValidationError as error:
        sys.exit(error.errors()[0]["msg"].removeprefix("Value error, "))
    return settings.model_copy(update={"storage": storage})


def _is_bucket(settings: Any) -> bool:
    return bool(settings.storage.url.startswith("s3:"))


def _check_unused(settings: Any) -> None:
    """Exit with one line if a process uses a directory; `guard` does the same for a bucket."""
    path = None if _is_bucket(settings) else settings.storage.directory / "catalogue.sqlite3"
    if path is None or not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
        try:
            # Each open connection has a lock that excludes this one.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("ROLLBACK")
        except sqlite3.OperationalError:
            sys.exit(f"{settings.storage.url}: a process uses it; end it, and run this again")


class _Move:
    """Copies the files of a store to another one."""

    def __init__(self, verifies: bool) -> None:
        self.verifies = verifies
        self.summary = Summary()

    async def run(self, source: StorageSettings, target: StorageSettings) -> int:
        """Return the number of problems."""
        done = self.summary
        async with open_storage(source) as self.source, open_storage(target) as self.target:
            try:
                # Otherwise a later sweep could remove files that an earlier run has begun.
                await self.target.sweep()
                await self._copy_all()
                unfinished = await self._count_unfinished()
            except Problem as problem:
                reason = problem.__cause__ or problem.detail
                done.report("stopped", f"{reason}; run it again to go on")
                unfinished = 0
        sys.stdout.write(
            f"{done.copied} files with {done.size} bytes copied, {done.skipped} were there already,"
            f" {unfinished} unfinished uploads are not copied, {done.problems} problems\n"
        )
        return done.problems

    async def _copy_all(self) -> None:
        async for batch in self._batches():
            async with AsyncExitStack() as stack:
                copies = (self._copy(stack, row) for row in batch)
                results = await asyncio.gather(*copies, return_exceptions=True)
                good: dict[Row, Writer] = {}
                for row, result in zip(batch, results, strict=True):
                    if isinstance(result, BaseException):
                        raise result
                    if result is not None:
                        good[row] = result
                await self.target.catalogue.write(_ADD, json.dumps([*good]))
                for writer in good.values():
                    writer.committed = True
                    self.summary.copied += 1
                    self.summary.size += writer.size
        [(last,)] = await self.source.catalogue.read(_LAST)
        await self.target.catalogue.write(_RAISE_LAST, last)

    async def _batches(self) -> AsyncIterator[list[Row]]:
        """Yield the rows that the target lacks, in order: those of a few files at a time."""
        batch: list[Row] = []
        size = after = 0
        while rows := await self.source.catalogue.read(_ROWS, after, FILES):
            after = rows[-1][0]
            ids = json.dumps([row[1] for row in rows])
            known = {file_id for (file_id,) in await self.target.catalogue.read(_KNOWN, ids)}
            for row in map(Row._make, rows):
                if row.id in known:
                    await self._check_known(row)
                    continue
                following = FileRecord.model_validate_json(row.record).size
                if batch and (size + following > BYTES or len(batch) == FILES):
                    yield batch
                    batch, size = [], 0
                batch.append(row)
                size += following
        if batch:
            yield batch

    async def _copy(self, stack: AsyncExitStack, row: Row) -> Writer | None:
        """Copy the bytes of a file; return None, and report why, if they are not correct."""
        record, digest = FileRecord.model_validate_json(row.record), hashlib.sha256()
        with self._reporting(row.id):
            copy = self.target.create(record, digest.update, record.size, row.id)
            writer = await stack.enter_async_context(copy)
            async with aclosing(self.source.read(row.id, 0, record.size)) as chunks:
                async for chunk in chunks:
                    await writer.write(chunk)
            await writer.flush()  # The digest is complete.
            known = (record.digest or {}).get("sha-256")
            if known and known != base64.b64encode(digest.digest()).decode():
                raise Differs("it is damaged in FROM")
            await writer.finish()
            await self.target.make_durable(writer)
            if await _digest_of(self.target, record) != digest.digest():
                raise Differs("the copy differs")
            return writer
        return None

    async def _check_known(self, row: Row) -> None:
        """Count a file of TO, and with `--verify` compare its bytes."""
        self.summary.skipped += 1
        if self.verifies:
            record = FileRecord.model_validate_json(row.record)
            with self._reporting(row.id):
                found = [await _digest_of(each, record) for each in (self.source, self.target)]
                if found[0] != found[1]:
                    raise Differs("the copy differs: delete it in TO, and run this again")

    @contextmanager
    def _reporting(self, file_id: str) -> Iterator[None]:
        """Report why a file cannot be copied; other problems end the run."""
        try:
            yield
        except (Differs, EOFError) as error:
            self.summary.report(file_id, error)
        except Problem as problem:
            if problem.status_code != 404:
                raise
            self.summary.report(file_id, "its bytes are missing")

    async def _count_unfinished(self) -> int:
        if not await self.source.catalogue.read(_HAS_UPLOADS):
            return 0
        [(number,)] = await self.source.catalogue.read(_UNFINISHED)
        return int(number)


async def _digest_of(storage: BaseStorage, record: FileRecord) -> bytes:
    """Return the SHA-256 of a file in a store."""
    digest = hashlib.sha256()
    async with aclosing(storage.read(record.id, 0, record.size)) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
    return digest.digest()
