"""What becomes of a client's file name: metadata, made harmless, never a path.

Sources: RFC 6266, section 4.3; Unicode TR36 (bidirectional controls); naming files on Windows.
"""

import re
import unicodedata
from pathlib import PurePosixPath

MAX_BYTES = 255
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
#: Invisible, but part of how Persian, Hindi and emoji are written.
_JOINERS = "\u200c\u200d"
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³])(\.|$)")


def clean_filename(name: str | None) -> str:
    """Return a base name of at most 255 bytes in UTF-8, in NFC, without controls; `file` if empty.

    The extension survives the shortening; a name that Windows reserves gets an underscore.
    """
    name = unicodedata.normalize("NFC", name or "").replace("\\", "/").rpartition("/")[2]
    name = "".join(c for c in name if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE)
    name = name.strip().lstrip(".").rstrip(". ")
    if _RESERVED.match(name):
        name = f"_{name}"
    return _shorten(name) or "file"


def _shorten(name: str) -> str:
    if len(name.encode()) <= MAX_BYTES:
        return name
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= 32 else ""
    stem = name.encode()[: MAX_BYTES - len(suffix.encode())]
    return stem.decode(errors="ignore") + suffix
