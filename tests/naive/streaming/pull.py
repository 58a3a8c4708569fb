"""Streams as the framework sends them."""

from typing import Any

from starlette.responses import StreamingResponse


class ByteStream(StreamingResponse):
    media_type = "application/octet-stream"

    def __init__(
        self,
        *arguments: Any,
        failure_record: Any = None,
        duplex: bool = False,
        coding: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
