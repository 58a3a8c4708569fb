"""The header fields that make a stranger's file safe to send, whatever it and its name hold.

Also its `Repr-Digest`, if one was computed at upload.
Sources: RFC 6266, section 4 and appendix D; RFC 8187 (`filename*`); RFC 9530, sections 3 and 4.
"""

import re
import unicodedata
from functools import lru_cache
from urllib.parse import quote

from ..storage.records import FileRecord
from ..streams.digests import digest_field, wanted_digest

#: Types that a browser shows without running anything in them.
#: Without a comma, at which they would take what follows for another type.
INLINE = re.compile(
    r"(?i)(image/(png|jpeg|gif|webp|avif)|(audio|video)/[^\s,;]+|text/plain)(\s*;[^,]*)?"
)

#: Not run, whatever a browser is told to do with it.
SAFETY = {"Content-Security-Policy": "sandbox; default-src 'none'"}


@lru_cache(1024)  # Of the process: it depends on the arguments alone.
def content_disposition(filename: str, *, inline: bool = False) -> str:
    """Return the field for a name: an ASCII form for old clients, and the name itself."""
    extended = quote(filename, safe="!#$&+-.^_`|~")
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{_ascii(filename)}\"; filename*=UTF-8''{extended}"


def _ascii(filename: str) -> str:
    """Return a name without marks, and with `_` for what else is not ASCII.

    It has no quotes, backslashes or percent signs, which clients disagree about, nor what only the
    decomposition brought: a path, a hidden file.
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
    members = [member.strip() for member in wanted.split(",") if known]
    preferred = wanted_digest(",".join(m for m in members if m.partition("=")[0].strip() in known))
    if preferred:
        known = {preferred: known[preferred]}
    return {"Repr-Digest": digest_field(known)} if known else {}
