"""JSON Lines with an end marker: a client can tell a whole stream from a cut one.

The last line is `{"$end": {"count": n}}`, or `{"$error": {problem}}` after a failure; a stream
whose last line is neither was cut. A page of a listing that goes on has the cursor of the next one
there too: `{"$end": {"count": n, "next": cursor}}`.
Source: jsonlines.org (one JSON value per line, UTF-8, LF).
"""

from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel

from .batches import in_batches
from .pull import ByteStream

Model = TypeVar("Model", bound=BaseModel)
Following = Callable[[], int | None]

#: The last line, as a JSON schema.
_LAST = {
    "type": "object",
    "properties": {
        "$end": {
            "type": "object",
            "properties": {
                "count": {"type": "integer", "description": "How many lines came before."},
                "next": {
                    "type": "integer",
                    "description": "Only when there is more: `after` of the next page.",
                },
            },
            "required": ["count"],
        },
        "$error": {"type": "object", "description": "What went wrong, as in other answers."},
    },
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}


def described(model: type[BaseModel], address: str) -> dict[str, Any]:
    """Return the `content` of OpenAPI for JSON Lines of a model; `address` is that of the route."""
    # With an id of its own, so that references within the schema stay within it.
    row = {"$id": address, **model.model_json_schema(mode="serialization", by_alias=False)}
    return {JsonLines.media_type: {"itemSchema": {"anyOf": [row, _LAST]}}}


def _error_line(document: dict[str, Any]) -> bytes:
    return pydantic_core.to_json({"$error": document}) + b"\n"


class _Lines:
    """Encodes rows and counts them."""

    def __init__(self, following: Following) -> None:
        self.count = 0
        self._following = following

    def encode(self, row: BaseModel) -> bytes:
        self.count += 1
        return row.model_dump_json(by_alias=False).encode() + b"\n"

    def end(self) -> bytes:
        cursor = self._following()
        rest = b"" if cursor is None else b',"next":%d' % cursor
        return b'{"$end":{"count":%d%b}}\n' % (self.count, rest)


class JsonLines(ByteStream):
    """Send pydantic models as JSON Lines, in batches; a list of models is a batch of its own.

    The last line is `{"$end": {"count": n}}`. A `Problem` that is raised before the first row is
    the response; after a later failure the last line is `{"$error": {problem}}`, and the connection
    is aborted. `following` is called after the last row: it returns the cursor of the next page,
    which the last line then has as `next`, or None. `options` are those of ByteStream.
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
