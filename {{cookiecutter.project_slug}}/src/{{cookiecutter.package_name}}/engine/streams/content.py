"""The content of bodies: media type, parameters, charset, coding, and line ends of JSON.

Sources: RFC 9110, sections 5.6.6 (parameters), 8.3 (Content-Type), 8.4 (Content-Encoding), 12.5.3
(Accept-Encoding), 15.5.16 (415); RFC 6266, section 4.1 (repeated parameters); RFC 8187 (`name*`);
RFC 2231, section 3 (`name*0`, `name*1*`); HTML, "Multipart form data" (backslashes of browsers);
the Encoding Standard (names of charsets); W3C LDP 1.0 (Accept-Post).
"""

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from fastapi import Request

from ..kernel.fields import MAX_FIELD, members
from ..kernel.kernel import BOUNDS
from ..kernel.problem import Problem, ProblemType

ENCODED = ProblemType(
    "encoded-body",
    "The body is encoded",
    "The operation does not decode bodies. Send the bytes without `Content-Encoding`.",
)

#: A value has one of three forms: a quoted string with escapes; a quoted string of a browser, in
#: which backslashes are literal, if the first form does not match; or unquoted words, of which only
#: the first may contain a `=`. All quantifiers are possessive, so matching takes linear time.
_PARAMETER = re.compile(
    r'[ \t]*+(?:([^\s=;"]++)[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"(?=[ \t]*+(?:;|\Z))|"([^"]*+)"|'
    r'([^\s;"]++(?:[ \t]++[^\s;"=]++)*+))[ \t]*+)?(?:;|\Z)'
)
_ESCAPED = re.compile(r'\\(["\\])')
_CHARSETS = (
    *("utf-8", "utf8", "us-ascii", "ascii", "latin1", "koi8-r", "koi8-u", "ibm866", "euc-jp"),
    *("iso-2022-jp", "gb18030"),
    *(f"iso-8859-{part}" for part in (*range(1, 12), *range(13, 17))),
    *(f"windows-{page}" for page in range(1250, 1259)),
)
#: Python's codecs, by the charset's name in lower case. UTF-16 is missing: its byte order is
#: ambiguous. Looking up other names would import modules, and cache the names that clients send.
_CODECS = {name: name for name in _CHARSETS} | {
    "windows-874": "cp874",
    "macintosh": "mac-roman",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
}
#: The names of UTF-8, and of its subset.
_UTF_8 = {"utf-8", "utf8", "us-ascii", "ascii"}


class ContentType(NamedTuple):
    """The media type of a body and its parameters; their names are in lower case."""

    media_type: str
    parameters: dict[str, str]


def refuse_coding(request: Request) -> None:
    """Raise Problem 415 for a body with a content coding."""
    codings = members(request.headers.raw, b"content-encoding")
    if any(coding != b"identity" for coding in codings):
        detail, headers = "Send the body without content coding.", {"Accept-Encoding": "identity"}
        raise Problem(415, detail, type=ENCODED, headers=headers)


def require_text(request: Request, *media_types: str) -> ContentType:
    """Return the content type of a body that will be decoded as UTF-8.

    Raises Problem 415 for other media types, if some are given, for another charset, and for a
    content coding.
    """
    refuse_coding(request)
    # No Accept-Encoding, which would report an unsupported coding (RFC 9110, section 12.5.3).
    taken = ", ".join(media_types)
    headers = {"Accept": taken, "Accept-Post": taken} if taken else {}
    try:
        content_type = ContentType(*parameters(request.headers.get("content-type", "")))
    except ValueError as error:
        detail = f"The Content-Type is not valid ({error}): send UTF-8."
        raise Problem(415, detail, headers=headers) from None
    if media_types and content_type.media_type not in media_types:
        raise Problem(415, f"Send {' or '.join(media_types)}, in UTF-8.", headers=headers)
    charset = content_type.parameters.get("charset", "utf-8")
    if charset.lower() not in _UTF_8:
        detail = f"The charset {charset[:40]!r} is not supported: send UTF-8."
        raise Problem(415, detail, headers=headers)
    return content_type


def parameters(field: str, unescape: Callable[[str], str] = str) -> tuple[str, dict[str, str]]:
    """Return the text before the parameters, and the parameters by name, both in lower case.

    The extended notation of a name takes precedence over the plain one, whose value is passed to
    `unescape`. Raises ValueError for a field that is ambiguous, too long, or malformed.
    """
    if len(field) > MAX_FIELD:
        BOUNDS["streaming.max_field"] += 1
        raise ValueError(f"there are more than {MAX_FIELD} bytes")
    kind, _, rest = field.partition(";")
    if "=" in kind:  # Some clients omit the text before the parameters.
        kind, rest = "", field
    found: dict[str, str] = {}
    sections: dict[str, dict[str, str]] = {}
    for name, value in _raw(rest).items():
        name, extended, section = name.partition("*")
        if extended:
            sections.setdefault(name, {})[section] = value
        else:
            found[name] = unescape(value)
    for name, values in sections.items():
        try:
            found[name] = _extended(values)
        except (LookupError, UnicodeError):
            if name not in found:
                raise ValueError(f"`{name}*` cannot be decoded") from None
    return kind.strip().lower(), found


def _raw(rest: str) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    while position < len(rest):
        match = _PARAMETER.match(rest, position)
        if match is None:
            raise ValueError("a parameter is malformed")
        position = match.end()
        name, quoted, browsers, plain = match.groups("")
        if name.lower() in found:
            raise ValueError(f"`{name.lower()}` is repeated")
        if name:
            found[name.lower()] = _ESCAPED.sub(r"\1", quoted) or browsers or plain
    return found


def _extended(values: dict[str, str]) -> str:
    """Decode `name*`, or join the sections `name*0`, `name*1*`, …; keys are the text after `*`."""
    if values.keys() == {""}:
        charset, octets = _in_charset(values[""])
        return decode(octets, charset)
    charset, plain, whole = "utf-8", "utf-8", []
    for number in map(str, range(len(values))):
        if (number in values) == (f"{number}*" in values):
            raise ValueError(f"section {number} of a parameter is missing or repeated")
        if number in values:
            whole.append(values[number].encode(plain))
        elif whole:
            whole.append(unquote_to_bytes(values[f"{number}*"]))
        else:
            charset, octets = _in_charset(values["0*"])
            whole, plain = [octets], "ascii"
    return decode(b"".join(whole), charset)


def _in_charset(value: str) -> tuple[str, bytes]:
    charset, _, rest = value.partition("'")
    return charset, unquote_to_bytes(rest.partition("'")[2])


def decode(octets: bytes, charset: str) -> str:
    """Decode text; raises LookupError for an unknown charset, UnicodeError for invalid bytes."""
    return octets.decode(_CODECS[charset.strip().lower()])


def escape_line_ends(document: str) -> str:
    """Escape the characters of JSON that `str.splitlines` takes for line ends.

    Many clients split lines with it, or with a reader that treats U+0085, U+2028 and U+2029 alike.
    Outside of strings JSON has none of them, and the other line ends are always escaped.
    """
    if document.isascii():
        return document
    document = document.replace("\x85", "\\u0085")
    return document.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
