"""The headers of a response with a file, which make it safe whatever its bytes and its name are.

Also its `Repr-Digest`, if one was computed at upload.
Sources: RFC 6266, section 4 and appendix D; RFC 8187 (`filename*`); RFC 9530, sections 3 and 4.
"""

import re
import unicodedata
from email.utils import format_datetime
from functools import lru_cache
from urllib.parse import quote

from ..storage.conditional import last_modified
from ..storage.records import FileRecord
from ..streams.digests import digest_field, wanted_digest

#: Types that browsers display without running scripts in them. A comma is not allowed, because a
#: browser would treat the text after it as another type.
INLINE = re.compile(
    r"(?i)(image/(png|jpeg|gif|webp|avif)|(audio|video)/[^\s,;]+|text/plain)(\s*;[^,]*)?"
)

#: Prevents scripts even if a browser displays the file.
SAFETY = {"Content-Security-Policy": "sandbox; default-src 'none'"}


def caching(record: FileRecord, max_age: float) -> dict[str, str]:
    """Return the headers that a 304 has too: the validator, and how long it can be cached."""
    control = "private, no-cache"
    if seconds := int(max_age):
        scope = "private" if record.owner else "public"
        control = f"{scope}, max-age={seconds}, immutable"
    return {"ETag": record.etag, "Cache-Control": control}


def description(record: FileRecord, inline: bool) -> dict[str, str]:
    """Return the headers that describe a file, whichever part of it is sent."""
    show = inline and INLINE.fullmatch(record.content_type) is not None
    return {
        **SAFETY,
        "Accept-Ranges": "bytes",
        # Set here, because the framework would add a charset.
        "Content-Type": record.content_type,
        "Content-Disposition": content_disposition(record.filename, inline=show),
        "Last-Modified": format_datetime(last_modified(record), usegmt=True),
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
    so are a slash and a leading dot that only the decomposition has produced.
    """
    characters = unicodedata.normalize("NFC", filename)
    name = "".join(_decomposed(character) for character in characters)
    return re.sub(r'[^\x20-\x7e]|["\\%/]|^\.', "_", name)


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
