"""The record of a stored file: an id, immutable bytes, and the client's description of them.

The client's file name is sanitized, and never used as a path. Sources: RFC 6266, section 4.3;
Unicode TR36 (bidirectional controls); naming files on Windows.
"""

import re
import secrets
import time
import unicodedata
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ..kernel.problem import Problem

#: A string, so that an id that is not a UUID gets 404 and not 422.
FileId = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
#: Bytes of a file name, and of a media type.
MAX_BYTES = 255
#: Characters of a media type with its parameters, which become a header of downloads.
MAX_TYPE = 255
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
#: Invisible, but used in Persian, Hindi and emoji.
_JOINERS = "\u200c\u200d"
#: Characters of a base name that are considered; the rest is ignored.
_MAX_CLEANED = 1024
#: Names of devices on Windows, with any extension, and with spaces before it.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³]|conin\$|conout\$)\s*([.:]|$)")
#: Dots and spaces: a name may neither begin nor end with them.
_OUTER = "." + "".join(c for c in map(chr, range(0x3001)) if c.isspace())


class Draft(BaseModel):
    """The client's description of a file, before its bytes are received; it is not verified.

    `content_type` is a media type, `metadata` the other fields of a form or of tus, and `owner` the
    id of the request's Principal.
    """

    model_config = ConfigDict(frozen=True)

    filename: str
    content_type: str = "application/octet-stream"
    metadata: dict[str, str] = {}
    owner: str | None = None


class FileRecord(Draft):
    """A stored file; its bytes never change.

    `id` is a UUIDv7 (RFC 9562), `size` in bytes, `created_at` in UTC; `digest` is base64 by
    algorithm (`sha-256`, `sha-512`; RFC 9530) if the client asked for one, else None. `crc32` is
    known once the file has been in an archive; it is not part of responses.
    """

    id: FileId
    size: int
    created_at: datetime
    digest: dict[str, str] | None = None
    crc32: int | None = Field(default=None, exclude=True)

    @property
    def etag(self) -> str:
        """A strong validator: the bytes of an id never change."""
        return f'"{self.id}"'


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7): ordered by time, with 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return str(UUID(int=value | 0b10 << 62 | secrets.randbits(62)))


def created_at(file_id: str) -> float:
    """Return the time of an id in seconds since the epoch."""
    return (UUID(file_id).int >> 80) / 1000


def is_id(text: str) -> bool:
    """Whether the text is the canonical form of a UUID, and so safe in a path."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def checked_id(text: str) -> str:
    """Return the id; raise Problem 404 if it is not a UUID."""
    if is_id(text):
        return text
    raise not_found()


def not_found() -> Problem:
    return Problem(404, "There is no file with this id.")


def clean_filename(name: str | None) -> str:
    """Return a base name of at most 255 bytes in UTF-8, in NFC, without controls; `file` if empty.

    A shortened name keeps its extension; a name that Windows reserves gets an underscore.
    """
    name = (name or "").replace("\\", "/").rpartition("/")[2]
    # Normalization takes quadratic time for combining characters.
    name = name[:_MAX_CLEANED]
    if not name.isprintable():
        kept = (c for c in name if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE)
        name = "".join(kept)
    # Only now, because an invisible character can separate two that NFC combines.
    name = unicodedata.normalize("NFC", name).strip(_OUTER)
    if _RESERVED.match(name):
        name = f"_{name}"
    if len(name.encode()) > MAX_BYTES:
        name = "".join(split_name(name, MAX_BYTES)).strip(_OUTER)
    return name or "file"


def split_name(name: str, room: int) -> tuple[str, str]:
    """Split a name before its extension, and cut it to `room` bytes before that."""
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= 32 else ""
    stem = name.removesuffix(suffix).encode()[: room - len(suffix.encode())]
    return stem.decode(errors="ignore"), suffix
