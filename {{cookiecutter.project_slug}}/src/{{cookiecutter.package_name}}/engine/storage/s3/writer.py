"""Writing: the bytes of a file are collected into parts, which are sent while others are collected.

Chunks are kept as they arrived, and sent without joining them. S3 accepts parts of 5 MiB to 5 GiB,
and numbers up to 10,000 (Amazon S3 user guide, "Multipart upload limits"). Memory is taken for
bytes that have arrived; without any, a part continues in a temporary file.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...kernel.threads import complete, notify
from ...objects.bucket import BucketError
from ..catalogue import Place
from ..interface import Callbacks, Chunk, Tap
from ..records import Draft
from ..writer import BLOCK, HEAD, MAX_CHUNKS
from .body import LOWEST_RATE, Body
from .pool import Refused, S3Pool

#: Bytes of the smallest part but the last.
MIN_PART = 5 << 20
#: Parts of an object whose size is known, so that an upload can skip other numbers.
EQUAL_PARTS = 9000
#: Without a known length, sizes double after this many parts.
DOUBLED_AFTER = 990
#: Parts of one upload on their way at the same time.
IN_FLIGHT = 2


def part_size(number: int, expected: int = 0) -> int:
    """Return the size in bytes of the part with this number.

    `expected` is the size of the object, 0 if unknown. If it is known, all parts are equal, which
    some servers require.
    """
    if expected:
        return max(MIN_PART, -(-expected // EQUAL_PARTS >> 20) << 20)
    return MIN_PART << (number - 1) // DOUBLED_AFTER


class Part(NamedTuple):
    """A part that S3 has stored."""

    number: int
    etag: str
    size: int
    #: The CRC-32 in base64; None if S3 does not list it.
    checksum: str | None = None


class Multipart:
    """The parts of one object on their way to S3.

    All methods raise BucketError. After a part has failed, each further call raises that again.
    """

    def __init__(
        self,
        pool: S3Pool,
        key: str,
        about: Mapping[str, Any],
        expected: int = 0,
        upload_id: str | None = None,
        parts: Sequence[Part] = (),
        last: int = 0,
    ) -> None:
        """Continue the multipart upload `upload_id` after its `parts`, in order.

        By default it begins with the first part. `about` are the arguments `ContentType` and
        `Metadata` of the object. `expected` is its size in bytes, 0 if unknown. New parts get
        numbers above `last`, and above those of `parts`.
        """
        self.pool, self.key = pool, key
        self.upload_id = upload_id
        #: The parts that S3 has stored, without a gap.
        self.parts = list(parts)
        #: Bytes of `parts`, and of these with all parts on their way.
        self.stored = self.size = sum(part.size for part in parts)
        self._number = max(last, parts[-1].number if parts else 0)
        self.expected = expected
        #: Whether the object may exist.
        self.may_exist = False
        self._about = about
        self._sending: deque[asyncio.Task[Part]] = deque()

    @property
    def part_size(self) -> int:
        """The size of the next part in bytes."""
        # With more bytes than expected, the size of the object is unknown.
        return part_size(self._number + 1, self.expected if self.size < self.expected else 0)

    async def begin(self) -> str:
        """Begin the multipart upload unless it has begun; return its id."""
        if self.upload_id is None:
            # The checksum of the whole: the listings of some servers lack those of the parts.
            begun = await self._ask(
                "create_multipart_upload",
                ChecksumAlgorithm="CRC32",
                ChecksumType="FULL_OBJECT",
                **self._about,
            )
            self.upload_id = begun["UploadId"]
        return self.upload_id

    async def add(self, body: Body) -> None:
        """Begin to send a part, which becomes part of `parts` later.

        At most two are sent at the same time; the call waits for the older one. When the part has
        been sent, the body is cleared.
        """
        await self.settle(IN_FLIGHT - 1)
        await self.begin()
        self._number += 1
        self.size += body.size
        sending = asyncio.create_task(self._send(self._number, body))
        self._sending.append(sending)

        # Also if it was cancelled before it began.
        sending.add_done_callback(lambda _: body.clear())

    async def copy(self, key: str, start: int, stop: int) -> None:
        """Begin to append bytes of another object of the bucket, 5 MiB to 5 GiB, or fewer last."""
        await self.settle(IN_FLIGHT - 1)
        await self.begin()
        self._number += 1
        self.size += stop - start
        self._sending.append(asyncio.create_task(self._copy(self._number, key, start, stop)))

    async def settle(self, most: int = 0) -> None:
        """Wait until at most `most` parts are on their way; raises the error of one."""
        while self._sending and (len(self._sending) > most or self._sending[0].done()):
            await asyncio.wait({self._sending[0]})
            part = self._sending[0].result()
            self._sending.popleft()
            self.parts.append(part)
            self.stored += part.size

    async def complete(self) -> None:
        """Make an object of the parts; the only one with this key.

        If it is not known whether the request has succeeded, the object is looked at.
        """
        await self.settle()
        parts = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({"ChecksumCRC32": part.checksum} if part.checksum else {})
            for part in self.parts
        ]
        self.may_exist = True
        try:
            await self._ask(
                "complete_multipart_upload",
                UploadId=self.upload_id,
                MultipartUpload={"Parts": parts},
                IfNoneMatch="*",
            )
        except BucketError as error:
            await self._check_stored(error)

    async def put(self, body: Body) -> None:
        """Store an object that is too small for parts; raises as `complete`."""
        self.size, self.may_exist = body.size, True
        try:
            await body.send("put_object", self.key, IfNoneMatch="*", **self._about)
        except BucketError as error:
            await self._check_stored(error)
        self.stored = body.size

    async def abort(self) -> None:
        """Remove the parts; an object that has been completed is kept."""
        await self.cancel()
        if self.upload_id is not None:
            try:
                await self._ask("abort_multipart_upload", UploadId=self.upload_id)
            except Refused as refused:
                if refused.status != 404:
                    raise

    async def remove(self) -> None:
        """Remove the parts and the object."""
        await self.abort()
        if self.may_exist:
            await self._ask("delete_object")

    async def cancel(self) -> None:
        """Stop the requests of parts that are on their way; their memory is free afterwards."""
        for task in self._sending:
            task.cancel()
        if self._sending:
            await asyncio.wait(self._sending)
        for task in self._sending:
            if not task.cancelled():
                task.exception()  # Mark it as retrieved.

    async def _send(self, number: int, body: Body) -> Part:
        sent = await body.send("upload_part", self.key, UploadId=self.upload_id, PartNumber=number)
        return Part(number, sent["ETag"], body.size, body.checksum)

    async def _copy(self, number: int, key: str, start: int, stop: int) -> Part:
        copied = await self._ask(
            "upload_part_copy",
            UploadId=self.upload_id,
            PartNumber=number,
            CopySource={"Bucket": self.pool.bucket.name, "Key": key},
            CopySourceRange=f"bytes={start}-{stop - 1}",
            seconds=(stop - start) / LOWEST_RATE,
        )
        result = copied["CopyPartResult"]
        return Part(number, result["ETag"], stop - start, result.get("ChecksumCRC32"))

    async def _check_stored(self, error: BucketError) -> None:
        """Raise the error unless the object exists and has all bytes."""
        try:
            found = await self._ask("head_object")
        except Refused:
            found = {}
        if found.get("ContentLength") != self.size:
            raise error

    async def _ask(self, operation: str, *, seconds: float = 0, **arguments: Any) -> Any:
        return await self.pool.ask(operation, self.key, seconds=seconds, **arguments)


class S3Writer:
    """Writes the bytes of one file from the offset `size` on."""

    def __init__(
        self,
        file_id: str,
        draft: Draft,
        multipart: Multipart,
        place: Place,
        callbacks: Sequence[Callbacks],
        tap: Tap | None = None,
        head: bytes | None = b"",
    ) -> None:
        """`head` are the first bytes, until `accept` has seen them; then None."""
        self.id, self.draft, self.multipart = file_id, draft, multipart
        self.size = multipart.size
        self.head = head
        self.committed = False
        #: Whether its record may have been added.
        self.is_published = False
        self._pool, self._place = multipart.pool, place
        self._callbacks, self._tap = callbacks, tap
        self._body = Body(self._pool)
        #: The end of `_body`, which is not in its checksum yet.
        self._block: list[Chunk] = []
        self._block_size = 0
        self._checking: asyncio.Future[None] | None = None
        #: Bytes that are in the checksum, and those that `on_progress` knows.
        self._checked = self._told = self.size

    @property
    def written(self) -> int:
        """Bytes that S3 has stored."""
        return self.multipart.stored

    async def write(self, data: Chunk) -> None:
        if self.head is not None:
            self.head += data[: HEAD - len(self.head)]
            if len(self.head) == HEAD:
                self._accept(self.head)
        while data:
            room = self.multipart.part_size - self._body.size
            if room <= 0:  # It could not be sent before; after an error this raises it again.
                await self._send()
                continue
            chunk = data if len(data) <= room else memoryview(data)[:room]
            has_memory = await self._body.take(len(chunk))
            data = memoryview(data)[len(chunk) :]
            self.size += len(chunk)
            self._body.add(chunk)
            self._block.append(chunk)
            self._block_size += len(chunk)
            if self._block_size >= BLOCK or len(self._block) >= MAX_CHUNKS:
                await self._settle()
                self._check()
            if not has_memory:
                await self._check_all(BLOCK)
                await self._body.spill()
            if self._body.size >= self.multipart.part_size:
                await self._send()

    async def flush(self) -> None:
        """Send the rest: a part, or a small file as a whole; nothing can be written after it."""
        await self._check_all()
        with self._place.guarding():
            if self.multipart.upload_id is None and not self.multipart.may_exist:
                await self.multipart.put(self._body)
                self._body.clear()
            elif self._body.size:
                await self._send()
            await self.multipart.settle()

    async def finish(self) -> None:
        """Make an object of the bytes; raises the Problem of `accept` for less than 4 KiB."""
        await self.flush()
        if self.head is not None:
            self._accept(self.head)
        if self.multipart.upload_id is not None:
            with self._place.guarding():
                await self.multipart.complete()

    async def close(self) -> None:
        """Stop what has not been sent, and free the memory."""
        if self._checking is not None:
            await asyncio.wait({self._checking})
            self._checking.exception()  # Mark it as retrieved.
        await self.multipart.cancel()
        self._body.clear()

    def _accept(self, head: bytes) -> None:
        for each in self._callbacks:
            if each.accept is not None:
                each.accept(self.draft, head)
        self.head = None

    async def _send(self) -> None:
        await self._check_all()
        with self._place.guarding():
            await self.multipart.add(self._body)
        self._body = Body(self._pool)

    async def _check_all(self, least: int = 1) -> None:
        await self._settle(least)
        if self._block:
            self._check()
            await self._settle(least)

    def _check(self) -> None:
        """Start to compute the digest and the checksum of the last chunks."""
        body, block, size = self._body, self._block, self._block_size
        if len(block) >= MAX_CHUNKS:  # Each has its own overhead.
            body.chunks[-len(block) :] = block = [b"".join(block)]
        self._block, self._block_size = [], 0

        def check() -> None:
            if self._tap is not None:
                for chunk in block:
                    self._tap(chunk)
            body.update(block)
            self._checked += size

        loop = asyncio.get_running_loop()
        self._checking = loop.run_in_executor(self._pool.threads, check)

    async def _settle(self, least: int = 1) -> None:
        """Wait for the checksum, and report progress of `least` or more bytes.

        After a failure every further call raises it again.
        """
        if self._checking is not None:
            await complete(self._checking)
            self._checking = None
        if self._checked - self._told >= least:
            self._told = self._checked
            progress = [each.on_progress for each in self._callbacks]
            await notify(progress, self.id, self.id, self._checked)
