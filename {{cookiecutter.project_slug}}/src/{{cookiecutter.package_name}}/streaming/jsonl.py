"""JSON Lines with an end marker: a client can tell a whole stream from a cut one.

The last line is `{"$end": {"count": n}}`, or `{"$error": {problem}}` after a failure; a stream
whose last line is neither was cut. Source: jsonlines.org (one JSON value per line, UTF-8, LF).
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import pydantic_core
from pydantic import BaseModel

from .pull import ByteStream


def _error_line(document: dict[str, Any]) -> bytes:
    return pydantic_core.to_json({"$error": document}) + b"\n"


async def _lines(rows: AsyncGenerator[BaseModel]) -> AsyncGenerator[bytes]:
    count = 0
    async with aclosing(rows):
        async for row in rows:
            count += 1
            yield row.model_dump_json().encode() + b"\n"
    yield b'{"$end":{"count":%d}}\n' % count


class JsonLines(ByteStream):
    """Send models as JSON Lines."""

    media_type = "application/jsonl"

    def __init__(
        self,
        rows: AsyncGenerator[BaseModel],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(_lines(rows), status_code, headers, failure_record=_error_line)
