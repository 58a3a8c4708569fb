"""Rows of a response: encoded as the source yields them, sent in batches; JSON Lines of models.

A chunk costs more than the rows in it. A fast source therefore fills batches; a row of a slow one
waits for at most BATCH_SECONDS. The source runs in its own task, which opens and closes its
timeouts and connections: `wait_for(anext(source))` would cancel the source instead.

The last line of JSON Lines is an end marker, so that a client detects a truncated stream: it is
`{"$end": {"count": n}}`, or `{"$error": {problem}}` after a failure. A page of a listing adds the
cursor of the next page: `{"$end": {"count": n, "next": cursor}}`.
Source: jsonlines.org (one JSON value per line, UTF-8, LF).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel

from .content import escape_line_ends
from .pull import ByteStream

Row = TypeVar("Row")
Model = TypeVar("Model", bound=BaseModel)
Following = Callable[[], int | None]

#: A batch is sent when it has this number of bytes or rows, or when its first row has waited for
#: this number of seconds. Rows are limited because a source that never waits occupies the event
#: loop until the batch is sent.
BATCH_BYTES = 64 << 10
BATCH_ROWS = 1000
BATCH_SECONDS = 0.1
#: The JSON schema of the last line.
_LAST = {
    "title": "LastLine",
    "description": "The last line: the number of lines before it, or the problem.",
    "type": "object",
    "properties": {
        "$end": {
            "type": "object",
            "properties": {
                "count": {"type": "integer", "description": "The number of lines before this."},
                "next": {
                    "type": "integer",
                    "description": "`after` of the next page, if there is one.",
                },
            },
            "required": ["count"],
        },
        "$error": {"type": "object", "description": "The problem, as in other responses."},
    },
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}


async def in_batches(
    rows: AsyncGenerator[Row | list[Row]],
    encode: Callable[[Row], bytes],
    end: Callable[[], bytes] = bytes,
) -> AsyncGenerator[bytes]:
    """Yield encoded rows, then `end()`; a list of rows is a batch of its own.

    At most one batch is prepared ahead. An exception of the source is raised after its rows.
    """
    batch = _Batch()
    pump = asyncio.create_task(_pump(rows, encode, end, batch))
    try:
        ended = False
        while not ended:
            chunk = await batch.take()
            ended = pump.done()
            if chunk or not ended:
                yield chunk
        await pump
    finally:
        runs = pump.cancel()
        # Wait until the source has cleaned up.
        [error] = await asyncio.gather(pump, return_exceptions=True)
        batch.close()
        if runs and isinstance(error, Exception):
            raise error


async def _pump(
    rows: AsyncGenerator[Row | list[Row]],
    encode: Callable[[Row], bytes],
    end: Callable[[], bytes],
    batch: "_Batch",
) -> None:
    try:
        async with aclosing(rows):
            async for item in rows:
                if isinstance(item, list):
                    batch.add(b"".join(map(encode, item)))
                    await batch.taken()
                elif batch.add(encode(item)):
                    await batch.taken()
        batch.add(end())
    finally:
        batch.ripe.set()


class _Batch:
    """Encoded rows that have not been taken; `ripe` is set when the batch should be sent."""

    def __init__(self) -> None:
        self.ripe = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._taken = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> bool:
        """Add a row; return whether the batch must be taken before the next one."""
        if not self._parts:
            self._due = time.monotonic() + BATCH_SECONDS
            self._timer = self._loop.call_later(BATCH_SECONDS, self.ripe.set)
        self._parts.append(part)
        self._size += len(part)
        return (
            self._size >= BATCH_BYTES
            or len(self._parts) >= BATCH_ROWS
            # The timer cannot fire while the source does not wait.
            or time.monotonic() >= self._due
        )

    async def taken(self) -> None:
        """Offer the batch and wait until it has been taken."""
        self._taken.clear()
        self.ripe.set()
        await self._taken.wait()

    async def take(self) -> bytes:
        """Return the batch when it is ripe; empty if the source ended without more rows."""
        await self.ripe.wait()
        self.ripe.clear()
        self.close()
        chunk = b"".join(self._parts)
        self._parts, self._size = [], 0
        self._taken.set()
        return chunk

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def described(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `content` of OpenAPI for JSON Lines of a model."""
    row = model.model_json_schema(mode="serialization", by_alias=False)
    return {JsonLines.media_type: {"itemSchema": {"anyOf": [row, _LAST]}}}


def _error_line(document: dict[str, Any]) -> bytes:
    return escape_line_ends(pydantic_core.to_json({"$error": document}).decode()).encode() + b"\n"


class _Lines:
    """Encodes rows and counts them."""

    def __init__(self, following: Following) -> None:
        self.count = 0
        self._following = following

    def encode(self, row: BaseModel) -> bytes:
        self.count += 1
        return escape_line_ends(row.model_dump_json(by_alias=False)).encode() + b"\n"

    def end(self) -> bytes:
        cursor = self._following()
        rest = b"" if cursor is None else b',"next":%d' % cursor
        return b'{"$end":{"count":%d%b}}\n' % (self.count, rest)


class JsonLines(ByteStream):
    """Send pydantic models as JSON Lines, in batches; a list of models is a batch of its own.

    The last line is `{"$end": {"count": n}}`. A `Problem` that is raised before the first row
    becomes the response; after a later failure the last line is `{"$error": {problem}}`, and the
    connection is aborted. `following` is called after the last row, and returns the cursor of the
    next page, the `next` of the last line, or None. `options` are those of ByteStream.
    """

    media_type = "application/jsonl"

    def __init__(
        self,
        rows: AsyncGenerator[Model | list[Model]],
        status_code: int = 200,
        following: Following = lambda: None,
        **options: Any,
    ) -> None:
        lines = _Lines(following)
        source = in_batches(rows, lines.encode, lines.end)
        super().__init__(source, status_code, failure_record=_error_line, **options)
