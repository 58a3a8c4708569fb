"""What the header of a part of a form means: its name, that of its file, and its types.

Sources: RFC 7578, sections 4.2 to 4.8; RFC 2046, section 5.1 and RFC 5322, section 2.2.3 (folded
lines); HTML, "Multipart form data" (escapes in names).
"""

import re
from dataclasses import dataclass

from ..kernel.body import partial_body
from ..kernel.problem import Problem
from ..streams.content import decode, parameters
from .form_parser import malformed

MAX_HEADER_LINES = 32

_FOLD = re.compile(rb"\r\n[ \t]+")
_LINE = re.compile(rb"([\w!#$%&'*+.^`|~-]+):([^\r\n\0]*)")
#: What browsers escape in names, and nothing else: not even the percent sign itself.
_ESCAPE = re.compile("%(22|0D|0A)")
_CODINGS = {b"content-transfer-encoding", b"content-encoding"}
_AS_IT_IS = {b"binary", b"7bit", b"8bit", b"identity"}


@dataclass(frozen=True, slots=True)
class Part:
    """The header of a part; `filename` is None for a field, "" for a file without a name."""

    name: str
    filename: str | None
    content_type: str
    #: Of a field, if the part says it.
    charset: str = ""
    #: Whether the names are in no charset that is known, and were taken for Latin-1.
    guessed: bool = False


def part_of(block: bytes, charset: str = "") -> Part:
    """Return what a header says; raises Problem 400 when it is malformed.

    Raises Problem 415 for a part that is not sent as it is. `charset` is that of all names, where
    the form has said it.
    """
    header = _lines(block)
    disposition, guessed = _names(header.get(b"content-disposition", b""), charset)
    content_type = header.get(b"content-type", b"").decode("latin-1")
    try:
        kind, names = parameters(disposition, _unescape)
        if kind != "form-data" or "name" not in names:
            raise ValueError("there is no `Content-Disposition: form-data` with a name")
        filename = names.get("filename")
        # The type of a file is kept as it is, even if it is not valid.
        media_type, of_type = parameters(content_type) if filename is None else ("", {})
    except ValueError as error:
        raise malformed(f"in the header of a part {error}") from None
    if b"content-range" in header:
        raise partial_body("`Content-Range` in a part")
    codings = {header[name].lower() for name in _CODINGS & header.keys()}
    if media_type.startswith("multipart/") or codings - _AS_IT_IS:
        raise Problem(415, "Send each file as a part of its own, without an encoding.")
    return Part(names["name"], filename, content_type, of_type.get("charset", ""), guessed)


def text_of(octets: bytes, charset: str, what: str) -> str:
    """Return what stands in a form as text; raises Problem 415 when its charset is not known here.

    Raises Problem 400 when the bytes are none of that charset, or of UTF-8 where it is not said.
    """
    try:
        return decode(octets, charset or "utf-8")
    except LookupError:
        detail = f"{what} is in {charset[:40]!r}, a charset that is not known here: use UTF-8."
        raise Problem(415, detail) from None
    except UnicodeError:
        raise malformed(f"{what} is not text in {charset or 'UTF-8'}") from None


def _lines(block: bytes) -> dict[bytes, bytes]:
    """Return the lines of a header by name, in lower case."""
    lines = _FOLD.sub(b" ", block).split(b"\r\n")
    if len(lines) > MAX_HEADER_LINES:
        raise malformed(f"the header of a part has at most {MAX_HEADER_LINES} lines")
    header: dict[bytes, bytes] = {}
    for line in lines if block else []:
        match = _LINE.fullmatch(line)
        if match is None:
            raise malformed("the header of a part has a line that breaks the rules")
        name = match[1].lower()
        if name in header and name.startswith(b"content-"):
            raise malformed("the header of a part says something twice")
        header[name] = match[2].strip(b" \t")
    return header


def _names(octets: bytes, charset: str) -> tuple[str, bool]:
    try:
        return text_of(octets, charset, "the name of a part"), False
    except Problem:
        if charset:
            raise
        return octets.decode("latin-1"), True


def _unescape(value: str) -> str:
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), value)
