"""JSON Lines with an end marker: a client can tell a whole stream from a cut one.

The last line is `{"$end": {"count": n}}`, or `{"$error": {problem}}` after a failure; a stream
whose last line is neither was cut. Source: jsonlines.org (one JSON value per line, UTF-8, LF).
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import pydantic_core
from pydantic import BaseModel

from .pull import ByteStream

#: A list of rows is sent at once: each chunk costs more than its rows do.
Rows = AsyncGenerator[BaseModel | Sequence[BaseModel]]


def _error_line(document: dict[str, Any]) -> bytes:
    return pydantic_core.to_json({"$error": document}) + b"\n"


async def _lines(rows: Rows) -> AsyncGenerator[bytes]:
    count = 0
    async with aclosing(rows):
        async for item in rows:
            batch = (item,) if isinstance(item, BaseModel) else item
            count += len(batch)
            yield "".join([row.model_dump_json() + "\n" for row in batch]).encode()
    yield b'{"$end":{"count":%d}}\n' % count


class JsonLines(ByteStream):
    """Send models as JSON Lines; `body_read` as in ByteStream."""

    media_type = "application/jsonl"

    def __init__(
        self,
        rows: Rows,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        body_read: asyncio.Event | None = None,
    ) -> None:
        super().__init__(
            _lines(rows), status_code, headers, failure_record=_error_line, body_read=body_read
        )
