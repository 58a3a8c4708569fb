"""Streams with the framework's own responses."""

import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from streaming_service.engine.streams.file_parts import FilePart


async def whole(source: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """Read parts of files, which the framework does not support."""
    async for chunk in source:
        if isinstance(chunk, FilePart):
            chunk = os.pread(chunk.descriptor, chunk.size, chunk.start)
        yield chunk


async def send_within(send: Send, message: Message, limit: float) -> None:
    """Send without a limit, as the framework does."""
    await send(message)


class ByteStream(StreamingResponse):
    media_type = "application/octet-stream"

    def __init__(
        self,
        source: Any,
        status_code: int = 200,
        headers: Any = None,
        *arguments: Any,
        failure_record: Any = None,
        duplex: bool = False,
        coding: Any = None,
        **options: Any,
    ) -> None:
        source = whole(source) if hasattr(source, "__aiter__") else source
        super().__init__(source, status_code, headers, *arguments, **options)
