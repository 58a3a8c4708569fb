"""The headers of a response with a file, which make it safe whatever its bytes and its name are.

Also its `Repr-Digest`, if one was computed at upload.
Sources: RFC 6266, section 4 and appendix D; RFC 8187 (`filename*`); RFC 9530, sections 3 and 4;
RFC 6838, section 4.2 (length of a media type).
"""

import codecs
import re
import unicodedata
from contextlib import aclosing
from email.utils import format_datetime
from functools import lru_cache, partial
from urllib.parse import quote

from ..storage.conditional import last_modified
from ..storage.interface import Storage
from ..storage.records import MAX_TYPE, FileRecord, clean_filename
from ..streams.digests import digest_field, wanted_digest

#: Types that browsers display without running scripts in them. A comma is not allowed, because a
#: browser would treat the text after it as another type, and `+` neither: `+xml` can have scripts.
INLINE = re.compile(
    r"(?i)(image/(png|jpeg|gif|webp|avif)|(?P<plays>(audio|video)/[\w.-]+)|application/pdf"
    r"|(?P<text>text/(plain|csv|markdown)))(\s*;[^,]*)?",
    re.ASCII,
)
#: Prevents scripts even if a browser displays the file.
SAFETY = {"Content-Security-Policy": "sandbox; default-src 'none'"}
#: Prevents scripts too. The player of a browser loads the file again as media of its own page, for
#: which a page in a sandbox has no origin.
PLAYER = {"Content-Security-Policy": "default-src 'none'; media-src 'self'"}
_BINARY = "application/octet-stream"
#: Bytes of a text that show whether it is UTF-8.
_SAMPLE = 64 << 10
_http_date = lru_cache(1024)(partial(format_datetime, usegmt=True))


def caching(record: FileRecord, max_age: float, is_private: bool) -> dict[str, str]:
    """Return the headers that a 304 has too: the validator, and how long it can be cached."""
    control = "private, no-cache"
    if seconds := int(max_age):
        scope = "private" if is_private else "public"
        control = f"{scope}, max-age={seconds}, immutable"
    return {"ETag": record.etag, "Cache-Control": control}


async def sent_type(storage: Storage, record: FileRecord, inline: bool) -> str:
    """Return the media type of a file; it is that of its record, but never longer than 255.

    A text that is displayed without a charset gets `charset=utf-8` if its first 64 KiB are UTF-8:
    browsers would decode it in the encoding of their locale.
    """
    kind = record.content_type if len(record.content_type) <= MAX_TYPE else _BINARY
    shown = INLINE.fullmatch(kind) if inline else None
    if not shown or not shown["text"] or "charset" in kind.lower():
        return kind
    decoder = codecs.getincrementaldecoder("utf-8")()
    async with aclosing(storage.read(record.id, 0, min(record.size, _SAMPLE))) as chunks:
        try:
            async for chunk in chunks:
                decoder.decode(chunk)
        except UnicodeDecodeError:
            return kind
    return f"{kind.rstrip(' ;')}; charset=utf-8"


def description(
    record: FileRecord, content_type: str, inline: bool, filename: str = ""
) -> dict[str, str]:
    """Return the headers that describe a file, whichever part of it is sent.

    `filename` is a name that the client wants; it is cleaned like the name of an upload.
    """
    name = clean_filename(filename) if filename else record.filename
    shown = INLINE.fullmatch(content_type) if inline else None
    return {
        **(PLAYER if shown and shown["plays"] else SAFETY),
        "Accept-Ranges": "bytes",
        # Set here, because the framework would add a charset.
        "Content-Type": content_type,
        "Content-Disposition": content_disposition(name, inline=shown is not None),
        "Last-Modified": _http_date(last_modified(record)),
    }


@lru_cache(1024)
def content_disposition(filename: str, *, inline: bool = False) -> str:
    """Return the header for a file name: an ASCII form for old clients, and the name itself."""
    extended = quote(filename, safe="!#$&+-.^_`|~")
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{_ascii(filename)}\"; filename*=UTF-8''{extended}"


def _ascii(filename: str) -> str:
    """Return a name without diacritics, and with `_` for other characters outside of ASCII.

    Quotes, backslashes and percent signs are replaced, because clients parse them differently, and
    so are a slash and a leading dot that only the decomposition has produced; the result is cleaned
    again, because that can also produce a name that Windows reserves.
    """
    characters = unicodedata.normalize("NFC", filename)
    name = "".join(_decomposed(character) for character in characters)
    return clean_filename(re.sub(r'[^\x20-\x7e]|["\\%/]|^\.', "_", name))


def _decomposed(character: str) -> str:
    ascii_form = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return ascii_form or ("" if unicodedata.combining(character) else "_")


def repr_digest(wanted: str, record: FileRecord) -> dict[str, str]:
    """Return the `Repr-Digest` header, if digests were stored with the file.

    `wanted` is the value of `Want-Repr-Digest`, empty for none: its preferred stored algorithm is
    sent, or all of them if it names none.
    """
    known = record.digest or {}
    if known and (preferred := wanted_digest(wanted, known)):
        known = {preferred: known[preferred]}
    return {"Repr-Digest": digest_field(known)} if known else {}
