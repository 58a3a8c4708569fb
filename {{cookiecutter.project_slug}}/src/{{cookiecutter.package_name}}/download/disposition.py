"""The header fields that make a stranger's file safe to send, whatever it and its name hold.

Sources: RFC 6266, section 4 and appendix D; RFC 8187 (`filename*`).
"""

import re
import unicodedata
from functools import lru_cache
from urllib.parse import quote

#: Types that a browser shows without running anything in them.
#: Without a comma, at which they would take what follows for another type.
INLINE = re.compile(
    r"(?i)(image/(png|jpeg|gif|webp|avif)|(audio|video)/[^\s,;]+|text/plain)(\s*;[^,]*)?"
)

#: Not run, whatever a browser is told to do with it.
SAFETY = {"Content-Security-Policy": "sandbox; default-src 'none'"}


@lru_cache(1024)
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
