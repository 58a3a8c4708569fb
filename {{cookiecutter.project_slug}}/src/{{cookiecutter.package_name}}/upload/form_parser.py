"""Cuts a `multipart/form-data` body into parts as it arrives, wherever its chunks end.

python-multipart finds the boundaries; what a header may have and mean is decided here. Nothing of a
part's bytes is kept.

Sources: RFC 7578; RFC 2046, section 5.1; RFC 8187; HTML, "Multipart form data" (escapes in names).
"""

import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from ..streaming import Problem, problem_type

MALFORMED = problem_type(
    "malformed-form",
    "The form is malformed",
    "The body is no form as RFC 7578 describes one, and nothing of it was stored. It is a mistake"
    " of the program that made it.",
)

# What it warns of is the client's fault, and the client is told: without this it is on stderr too.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())

#: Bytes and lines of one part's header.
MAX_HEADER = 16 << 10
MAX_HEADER_LINES = 32
#: Bytes before the first part and behind the last one, which mean nothing.
MAX_OUTSIDE = 64 << 10

_BOUNDARY = re.compile(r"[\w'()+,./:=? -]{0,69}[\w'()+,./:=?-]", re.ASCII)
#: A quoted string with escapes, or one as browsers write it, where a last backslash is a character.
_PARAMETER = re.compile(
    r"""[ \t]*;[ \t]*([^\s=;"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|"([^"]*)"|([^\s;"]+))[ \t]*"""
)


@dataclass(frozen=True, slots=True)
class Part:
    """The header of a part; `filename` is None for a field, "" for a file without a name."""

    name: str
    filename: str | None
    content_type: str


class FormParser:
    """Raises Problem 400 for a form that is malformed, 415 for a part that is not sent as it is."""

    def __init__(self, content_type: str) -> None:
        boundary = _parameters(content_type).get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise malformed("its boundary is 1 to 70 of the characters in RFC 2046")
        #: Bytes of the last boundary, with what belongs to it.
        self.closing = len(f"\r\n--{boundary}--\r\n")
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._add(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._add(1, data[start:end]),
                "on_header_end": self._end_line,
                "on_headers_finished": lambda: self._events.append(_part(self._header)),
                "on_part_data": self._add_data,
                "on_end": self._end,
            },
            max_header_count=MAX_HEADER_LINES,
            max_header_size=MAX_HEADER,
        )
        self._events: list[Part | memoryview] = []
        self._place = "before"
        self._outside = 0

    def feed(self, chunk: bytes) -> list[Part | memoryview]:
        """Return the parts that begin in a chunk, and bytes, each of the part that began last."""
        place = self._place
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise malformed("a boundary or a header breaks the rules") from None
        if place == self._place != "inside":
            self._outside += len(chunk)
            if self._outside > MAX_OUTSIDE:
                raise malformed("there is too much around its parts")
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Raise Problem 400 when the form has not ended."""
        if self._place != "behind":
            raise malformed("it ends before its last boundary")

    def _begin_part(self) -> None:
        self._place = "inside"
        self._header: dict[bytes, bytes] = {}
        self._line = [b"", b""]
        self._size = 0

    def _add(self, side: int, data: bytes) -> None:
        self._line[side] += data
        self._size += len(data)
        if self._size > MAX_HEADER:
            raise malformed(f"the header of a part has at most {MAX_HEADER} bytes")

    def _end_line(self) -> None:
        name, value = self._line
        self._header[name.lower()] = value.strip()
        self._line = [b"", b""]

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(memoryview(data)[start:end])  # A slice would copy all of it.

    def _end(self) -> None:
        self._place = "behind"


def malformed(reason: str) -> Problem:
    return Problem(400, f"The form is malformed: {reason}.", type=MALFORMED)


def _part(header: dict[bytes, bytes]) -> Part:
    disposition = _text(header.get(b"content-disposition", b""))
    parameters = _parameters(disposition)
    kind = disposition.partition(";")[0].strip().lower()
    if kind != "form-data" or "name" not in parameters:
        raise malformed("a part has no `Content-Disposition: form-data` with a name")
    filename = parameters.get("filename")
    if "filename*" in parameters:  # RFC 7578 forbids it; some clients send it, even alone.
        filename = _extended(parameters["filename*"]) or filename or "file"
    content_type = _text(header.get(b"content-type", b""))
    coding = header.get(b"content-transfer-encoding", b"binary").lower()
    nested = filename is None and content_type.lower().startswith("multipart/")
    if nested or coding not in (b"binary", b"7bit", b"8bit"):
        raise Problem(415, "Send each file as a part of its own, without transfer encoding.")
    return Part(parameters["name"], filename, content_type)


def _parameters(field: str) -> dict[str, str]:
    """Return the parameters of a header field by lower-case name."""
    found: dict[str, str] = {}
    position = len(field.partition(";")[0])
    # Each is matched where the one before it ended: to search would take quadratic time.
    while match := _PARAMETER.match(field, position):
        position = match.end()
        name, quoted, browsers, token = match.groups()
        value = re.sub(r'\\(["\\])', r"\1", quoted) if quoted else browsers or token or ""
        # Browsers escape these three characters, and not even the percent sign itself.
        value = re.sub("%(22|0D|0A)", lambda escape: chr(int(escape[1], 16)), value)
        found.setdefault(name.lower(), value)
    if field[position:].strip(" \t;"):
        raise malformed("a header has a parameter that breaks the rules")
    return found


def _extended(value: str) -> str | None:
    """Decode a value as in RFC 8187; None when its charset is not one of those, or not kept to."""
    charset, _, rest = value.partition("'")
    if charset.lower() in ("utf-8", "iso-8859-1"):
        with suppress(UnicodeDecodeError):
            return unquote(rest.partition("'")[2], charset, "strict")
    return None


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")
