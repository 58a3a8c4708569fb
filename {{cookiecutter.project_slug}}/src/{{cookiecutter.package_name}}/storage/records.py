"""What a stored file is: server-made id, immutable bytes, and the client's words about them."""

import secrets
import time
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ..streaming import Problem

#: Text, as what is no UUID is simply the id of no file.
FileId = Annotated[str, Field(json_schema_extra={"format": "uuid"})]


class Draft(BaseModel):
    """What is known of a file before its bytes are; all of it is the client's word."""

    model_config = ConfigDict(frozen=True)

    filename: str
    content_type: str = "application/octet-stream"
    metadata: dict[str, str] = {}
    owner: str | None = None


class FileRecord(Draft):
    """A stored file. `size` in bytes; `digest` is base64 by algorithm, when one was asked for."""

    id: FileId
    size: int
    created_at: datetime
    digest: dict[str, str] | None = None

    @property
    def etag(self) -> str:
        """A strong validator, for nothing: the bytes under an id never change."""
        return f'"{self.id}"'


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7): sorts by time, 74 bits nobody can guess."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return str(UUID(int=value | 0b10 << 62 | secrets.randbits(62)))


def created_at(file_id: str) -> float:
    """Return when an id was made, in seconds since the epoch."""
    return (UUID(file_id).int >> 80) / 1000


def is_id(text: str) -> bool:
    """Whether the text is the canonical form of a UUID, and so safe in a path."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def checked_id(text: str) -> str:
    """Return an id of ours; raise Problem 404 for what can never have been one."""
    if is_id(text):
        return text
    raise not_found()


def not_found() -> Problem:
    return Problem(404, "There is no file with this id.")
