"""The unfinished uploads of a bucket.

    files/{id}                         a multipart upload: its parts are the first bytes
    pieces/{id}/{offset}.{fence}       bytes from `offset` on, too few for a part

An upload ends where the chain of pieces ends that begins at the end of the parts. If two
pieces have the same offset, only the one with the higher fence counts, as it is of a later request.
The size of a part depends only on its number, and on the length if that was known when the first
part began. So a late or repeated request writes the same bytes at the same offset. Numbers that are
ignored have no offset.

The table `layouts` has the numbers of parts that do not count any more; pieces from the offset
`size` on with a lower fence do not count either. Holders with a lower fence cannot change the
records. Pieces are deleted when the next request begins, as a failed check of this one may need
them.

Before its bytes are read, an upload is sealed: it is an object without a record then, which no
client sees. A crash before the record was added leaves one, too.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from math import inf
from typing import Any

from ...kernel.problem import Problem
from ...kernel.threads import complete, in_thread
from ..interface import Tap
from ..partials import SCHEMA, Partial, Partials, Received
from ..records import FileRecord, created_at, is_id
from ..writer import HEAD
from .pool import Refused
from .store import COPIED, S3Storage
from .writer import IN_FLIGHT, MIN_PART, Part, S3Writer, part_size
from .writing_partials import MOST_PIECES, Hold, PartialWriter, Piece, State, lost, read_pieces

#: Uploads whose state is requested at the same time.
LOOKS = 8
#: The maximum of ignored numbers after takeovers: numbers are limited, and sizes grow with them.
#: Later parts of a dead holder can only repeat the same bytes.
MOST_SPARED = 500
#: Seconds between two attempts to take a lease, which grow; and seconds to wait for that of a part.
TAKE_EVERY, TAKE_LAST = 0.02, 0.25
PART_PATIENCE = 5.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS layouts (id TEXT PRIMARY KEY, multipart TEXT,"
    " ignored TEXT NOT NULL DEFAULT '[]', size INTEGER NOT NULL DEFAULT 0,"
    " fence INTEGER NOT NULL DEFAULT 0, length INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"
)
_STATES = """
SELECT id, multipart, ifnull(ignored, '[]'), ifnull(size, 0), ifnull(fence, 0),
    ifnull(json_extract(state, '$.length'), 0), length
FROM uploads LEFT JOIN layouts USING (id)
WHERE id IN (SELECT value FROM json_each(?)) AND json_extract(state, '$.completed_at') IS NULL
    AND json_extract(state, '$.expired_at') IS NULL
"""
_BEGIN = """
INSERT INTO layouts (id, multipart, length) SELECT id, ?2, ?4 FROM uploads WHERE id = ?1
ON CONFLICT DO UPDATE SET multipart = excluded.multipart, length = excluded.length
    WHERE multipart IS NULL AND fence <= ?3
RETURNING id
"""
_CUT = """
INSERT INTO layouts (id, ignored, size, fence) SELECT id, ?2, ?3, ?4 FROM uploads WHERE id = ?1
ON CONFLICT DO UPDATE SET ignored = excluded.ignored, size = excluded.size, fence = excluded.fence
    WHERE fence <= excluded.fence
RETURNING id
"""
_SAVE = """
UPDATE uploads SET state = ?2 WHERE id = ?1
    AND NOT EXISTS (SELECT 1 FROM layouts WHERE id = ?1 AND fence > ?3) RETURNING id
"""
#: Let no record be added any more, unless there is one: also one that another process adds now.
_BAN = """
INSERT OR REPLACE INTO removed (id) SELECT ?1
    WHERE NOT EXISTS (SELECT 1 FROM files WHERE id = ?1) RETURNING id
"""
_FORGOTTEN = """
FROM layouts WHERE id NOT IN (SELECT id FROM uploads)
    OR id IN (SELECT id FROM uploads WHERE json_extract(state, '$.expired_at') IS NOT NULL)
"""


def open_partials(storage: S3Storage, max_concatenations: int) -> "S3Partials":
    return S3Partials(storage, max_concatenations)


class S3Partials(Partials):
    """The unfinished uploads of one bucket; several processes may share it."""

    storage: S3Storage
    #: Longer than the lease of a process that has died.
    sweep_patience = 4.0

    def __init__(self, storage: S3Storage, max_concatenations: int) -> None:
        super().__init__(storage, max_concatenations)
        self._held: dict[str, Hold] = {}
        self._looking = asyncio.Semaphore(LOOKS)

    def _create_tables(self) -> None:
        self.storage.catalogue.create(*SCHEMA, _TABLE)

    async def _begin(self, partial: Partial) -> None:
        await complete(self.save(partial))

    async def save(self, partial: Partial) -> None:
        if hold := self._held.get(partial.id):
            state = partial.model_dump_json()
            await self._write(_SAVE, partial.id, state, hold.fence)
        else:
            await super().save(partial)

    async def _write(self, statement: str, *values: object) -> None:
        """Change a record; raises Problem 503 if a later holder has changed it."""
        if not await self.storage.catalogue.write(statement, *values):
            raise lost()

    async def _names(self) -> list[str]:
        prefix, bucket = self.storage.bucket.key("pieces", ""), self.storage.bucket
        names = []
        with self.storage.place.guarding(), bucket.errors():
            pages = self.storage.pool.client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket.name, Prefix=prefix, Delimiter="/"
            )
            async for page in pages:
                found = [each["Prefix"] for each in page.get("CommonPrefixes", [])]
                names += [each.removeprefix(prefix).strip("/") for each in found]
        # Only now: an upload has a record before it has bytes.
        await self.storage.catalogue.refresh()
        return sorted(filter(is_id, names))

    @asynccontextmanager
    async def claimed(
        self, upload_id: str, patience: float = 0, asked_at: int | None = None
    ) -> AsyncGenerator[Hold | None]:
        # The sweep of the files has a lease of its own.
        leases, name = self.storage.leases, upload_id if is_id(upload_id) else "sweep-uploads"
        stop = time.monotonic() + patience
        ticket = None if asked_at is None else await leases.ask(name)
        lease, pause = await leases.take(name, ticket), TAKE_EVERY
        while lease is None and time.monotonic() < stop:
            await asyncio.sleep(pause)
            lease, pause = await leases.take(name, ticket), min(1.5 * pause, TAKE_LAST)
        if lease is None:
            yield None
            return
        hold = self._held[upload_id] = Hold(lease)
        is_fenced = not lease.taken_over
        try:
            if not is_fenced:
                await self._fence(upload_id)
                is_fenced = True
            yield hold
        finally:
            if self._held.get(upload_id) is hold:
                del self._held[upload_id]
            # If the holder before may still write, the next one has to know it, too.
            await complete(lease.release(is_clean=is_fenced))

    async def _fence(self, upload_id: str) -> None:
        """Let nothing count that the last holder may still write, and refuse its changes."""
        await self.storage.catalogue.refresh()
        state = (await self._states([upload_id])).get(upload_id)
        if state and not state.is_sealed:
            spare = IN_FLIGHT if len(state.ignored) < MOST_SPARED else 0
            await self._cut(upload_id, state, state.size, spare)

    async def received(self, upload_ids: Iterable[str]) -> dict[str, Received]:
        found = await self._states(upload_ids)
        for upload_id, state in found.items():
            hold = self._held.get(upload_id)
            if hold and hold.task is asyncio.current_task():
                hold.state = state
        return {each: Received(state.size, state.changed_at) for each, state in found.items()}

    async def _states(self, upload_ids: Iterable[str]) -> dict[str, State]:
        rows = await self.storage.catalogue.read(_STATES, json.dumps(list(upload_ids)))

        async def look(*row: Any) -> State | None:
            async with self._looking:
                return await self._look(*row)

        with self.storage.place.guarding():
            states = await asyncio.gather(*(look(*row) for row in rows))
        return {row[0]: state for row, state in zip(rows, states, strict=True) if state}

    async def _look(self, upload_id: str, *row: Any) -> State | None:
        """Return the state of an upload, None if its bytes are gone."""
        # The length may have become known after the first part.
        multipart, ignored, end, fence, length, first_length = row
        state = State(0, created_at(upload_id), upload_id=multipart, ignored={*json.loads(ignored)})
        state.length = (first_length or 0) if multipart else length
        if multipart and not await self._list_parts(upload_id, state, length):
            return await self._sealed(upload_id)
        await self._list_pieces(upload_id, state, end, fence)
        # An object has more bytes than the pieces, if a crash left both: see PartialWriter.flush.
        return state if multipart else await self._sealed(upload_id) or state

    async def _list_parts(self, upload_id: str, state: State, length: int) -> bool:
        """Return False if there is no such multipart upload: it was completed or aborted."""
        found, marker = [], 0
        while True:
            try:
                page = await self.storage.pool.ask(
                    "list_parts",
                    self.storage.key(upload_id),
                    UploadId=state.upload_id,
                    PartNumberMarker=marker,
                )
            except Refused as refused:
                if refused.status == 404:
                    return False
                raise
            found += page.get("Parts", [])
            if not page.get("IsTruncated"):
                break
            marker = page["NextPartNumberMarker"]
        parts, number = [], 1
        for each in sorted(found, key=lambda part: int(part["PartNumber"])):
            while number in state.ignored:
                number += 1
            size, full = each["Size"], part_size(number, state.length)
            # The last part is smaller: it was sent, but the completion has failed.
            if each["PartNumber"] == number and size == min(full, (length or inf) - state.size):
                parts.append(Part(number, each["ETag"], size, each.get("ChecksumCRC32")))
                state.size += size
                state.changed_at = max(state.changed_at, each["LastModified"].timestamp())
                number += 1
            elif each["PartNumber"] not in state.ignored:
                state.has_strays = True
        state.parts = parts
        used = [each["PartNumber"] for each in found]
        state.last = max([0, *used, *state.ignored])
        return True

    async def _list_pieces(self, upload_id: str, state: State, end: int, fence: int) -> None:
        bucket = self.storage.bucket
        prefix = bucket.key("pieces", upload_id, "")
        found = await in_thread(self.storage.threads, lambda: list(bucket.list(prefix)))
        counting: dict[int, Piece] = {}
        changed_at = {}
        for entry in found:
            offset, _, of = entry.key.removeprefix(prefix).partition(".")
            piece = Piece(int(offset), int(of), entry.size, entry.key)
            changed_at[piece] = entry.modified_at
            other = counting.get(piece.offset)
            is_cut = piece.offset >= end and piece.fence < fence
            if not is_cut and (other is None or other.fence < piece.fence):
                counting[piece.offset] = piece
        while next_piece := counting.get(state.size):
            state.pieces.append(next_piece)
            state.size += next_piece.size
            state.changed_at = max(state.changed_at, changed_at[next_piece])
        used = {piece.key for piece in state.pieces}
        state.unused = [entry.key for entry in found if entry.key not in used]

    async def _sealed(self, upload_id: str) -> State | None:
        try:
            found = await self.storage.pool.ask("head_object", self.storage.key(upload_id))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        changed_at = found["LastModified"].timestamp()
        return State(found["ContentLength"], changed_at, is_sealed=True)

    async def _cut(self, upload_id: str, state: State, size: int, spare: int = 0) -> None:
        """Let nothing count from `size` on, not even if it arrives later, until it is new.

        `spare` is how many part numbers may be used by requests that have failed.
        """
        hold = self._held[upload_id]
        hold.check()
        end, number = 0, 1
        for part in state.parts:
            if (end := end + part.size) > size:
                break
            number = part.number + 1
        if state.has_strays:
            spare = IN_FLIGHT
        last = state.last + spare if state.upload_id else 0
        state.ignored |= {*range(number, last + 1)}
        state.last, state.has_strays = max(state.last, last), False
        await self._write(_CUT, upload_id, json.dumps(sorted(state.ignored)), size, hold.fence)

    async def truncate(self, upload_id: str, size: int) -> None:
        hold = self._held[upload_id]
        hold.state = None
        found = (await self._states([upload_id])).get(upload_id)
        if found and found.is_sealed and found.size == size:
            return
        if found is None or found.is_sealed:
            raise lost()
        # The bytes that this holder has written must not count either.
        hold.fence += hold.has_written
        await self._cut(upload_id, found, size, IN_FLIGHT)
        found = (await self._states([upload_id])).get(upload_id)
        if found is None or found.size != size:
            raise OSError(f"the upload {upload_id} cannot be truncated to {size} bytes")

    @asynccontextmanager
    async def open(
        self, partial: Partial, size: int, tap: Tap | None = None
    ) -> AsyncGenerator[PartialWriter]:
        hold = self._held[partial.id]
        with self.storage.place.guarding():
            state = hold.state or (await self._states([partial.id])).get(partial.id)
            hold.state = None
            if state is None or state.size != size:
                raise lost()
            head = await self._head(partial, state)
            if state.has_strays:
                await self._cut(partial.id, state, size)
            await self._delete(state.unused)

        async def begin(multipart: str) -> None:
            await self._write(_BEGIN, partial.id, multipart, hold.fence, state.length)

        writer = PartialWriter(self.storage, hold, partial, state, begin, tap, head)
        try:
            if len(state.pieces) > MOST_PIECES:
                await writer.join()
            yield writer
        finally:
            await complete(self._close(writer, hold))

    async def _close(self, writer: PartialWriter, hold: Hold) -> None:
        try:
            if writer.is_sealed:
                with suppress(Problem):  # Otherwise they are removed when the upload expires.
                    await self._delete_pieces(writer.id)
            elif not hold.is_removed:
                await writer.keep()
        finally:
            await writer.close()

    async def _head(self, partial: Partial, state: State) -> bytes | None:
        """Return the first bytes, unless `accept` has seen them."""
        # It has seen those of longer uploads, unless they are concatenated.
        if partial.is_part or (state.size >= HEAD and not partial.parts):
            return None
        if not state.is_sealed:
            source = read_pieces(self.storage, state.pieces)
        else:
            source = self.storage.read(partial.id, 0, min(HEAD, state.size))
        async with aclosing(source) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def read(self, upload_id: str, size: int) -> AsyncGenerator[bytes]:
        await self._seal(upload_id, size)
        async with aclosing(self.storage.read(upload_id, 0, size)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _seal(self, upload_id: str, size: int) -> None:
        partial, _ = await self.load(upload_id)
        if partial is None:
            raise lost()
        async with self.open(partial, size) as writer:
            await writer.seal()

    async def concatenate(self, upload_id: str, parts: tuple[str, ...], size: int) -> None:
        partial, _ = await self.load(upload_id)
        async with self._concatenating():
            sources = [(part, await self._seal_part(part)) for part in parts]
            if partial is None or sum(size for _, size in sources) != size:
                raise lost()
            multipart = self.storage.multipart(partial.draft, upload_id, expected=size)
            place = self.storage.place
            writer = S3Writer(upload_id, partial.draft, multipart, place, (), head=None)
            sources = [(part, size) for part, size in sources if size]
            try:
                if all(size >= MIN_PART for _, size in sources[:-1]) and size >= MIN_PART:
                    await self._copy(writer, sources)
                else:
                    for part, each in sources:
                        async with aclosing(self.storage.read(part, 0, each)) as chunks:
                            async for chunk in chunks:
                                await writer.write(chunk)
                    await writer.finish()
            except BaseException:
                with suppress(Problem), self.storage.place.guarding():
                    await complete(multipart.abort())
                raise
            finally:
                await complete(writer.close())
        self._held[upload_id].state = None

    async def _copy(self, writer: S3Writer, sources: Sequence[tuple[str, int]]) -> None:
        """Copy objects within S3, of which only the last may be smaller than a part."""
        with self.storage.place.guarding():
            for part, size in sources:
                steps = -(-size // COPIED)
                for step in range(steps):
                    start, stop = size * step // steps, size * (step + 1) // steps
                    await writer.multipart.copy(self.storage.key(part), start, stop)
            await writer.multipart.complete()

    async def _seal_part(self, part: str) -> int:
        """Seal a part of a concatenation; return its size."""
        async with self.claimed(part, PART_PATIENCE) as hold:
            received = (await self.received([part])).get(part)
            if hold is None or received is None:
                raise lost()
            await self._seal(part, received.size)
            return received.size

    async def _remove_bytes(self, upload_id: str) -> None:
        if hold := self._held.get(upload_id):
            hold.check()
            hold.is_removed = True
        await self.storage.catalogue.refresh()
        key, bucket = self.storage.key(upload_id), self.storage.bucket
        with bucket.errors():
            begun = await self.storage.pool.client.list_multipart_uploads(
                Bucket=bucket.name, Prefix=key
            )
        for each in begun.get("Uploads", []):
            with suppress(Refused):  # It was aborted already.
                await self.storage.pool.ask(
                    "abort_multipart_upload", key, UploadId=each["UploadId"]
                )
        if await self.storage.catalogue.write(_BAN, upload_id):
            await self.storage.pool.ask("delete_object", key)
        await self._delete_pieces(upload_id)

    async def _delete_pieces(self, upload_id: str) -> None:
        bucket, prefix = self.storage.bucket, self.storage.bucket.key("pieces", upload_id, "")
        with self.storage.place.guarding():
            found = await in_thread(self.storage.threads, lambda: list(bucket.list(prefix)))
            await self._delete([entry.key for entry in found])

    async def _delete(self, keys: Sequence[str]) -> None:
        bucket = self.storage.bucket
        for start in range(0, len(keys), 1000):
            objects = [{"Key": key} for key in keys[start : start + 1000]]
            with bucket.errors():
                await self.storage.pool.client.delete_objects(
                    Bucket=bucket.name, Delete={"Objects": objects, "Quiet": True}
                )

    async def _unchanged_since(
        self, before: float, rows: list[tuple[str, float | None]]
    ) -> list[str]:
        # No request is necessary for younger ones.
        rows = [row for row in rows if created_at(row[0]) < before]
        return await super()._unchanged_since(before, rows)

    def due(self, page: list[Partial], last: float, now: float) -> list[Partial]:
        """Return the uploads to look at: first all, later each one when its age has doubled."""

        def is_due(partial: Partial) -> bool:
            ages = [max(each - created_at(partial.id), 0) for each in (last, now)]
            then, current = (int(age / (now - last)).bit_length() for age in ages)
            return then < current

        found = super().due(page, last, now)
        return [each for each in found if not last or is_due(each)]

    async def forget(self, before: float) -> None:
        expired = "SELECT 1 FROM uploads WHERE json_extract(state, '$.expired_at') < ? LIMIT 1"
        if await self.storage.catalogue.read(expired, before):
            await super().forget(before)
        if await self.storage.catalogue.read(f"SELECT 1 {_FORGOTTEN} LIMIT 1"):
            await self.storage.catalogue.write(f"DELETE {_FORGOTTEN}")

    async def catch_up(self) -> None:
        """Do nothing: the times are those of the S3 server."""

    async def recover(self, partial: Partial) -> FileRecord | None:
        """Return None: a sealed upload still has to be inspected, so it becomes a file later."""
        return None
