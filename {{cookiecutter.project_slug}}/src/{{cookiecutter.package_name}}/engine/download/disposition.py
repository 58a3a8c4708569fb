"""The header fields that make a stranger's file safe to send, whatever it and its name hold.

Also its `Repr-Digest`: what was computed when it came, or what a client wants now.
Sources: RFC 6266, section 4 and appendix D; RFC 8187 (`filename*`); RFC 9530, sections 3 and 4.
"""

import re
import unicodedata
from collections.abc import Iterable
from contextlib import aclosing
from functools import lru_cache
from urllib.parse import quote

from ..kernel.threads import in_thread
from ..storage.interface import Storage
from ..storage.records import FileRecord
from ..streams.digests import Digester, digest_field, wanted_digest

#: Types that a browser shows without running anything in them.
#: Without a comma, at which they would take what follows for another type.
INLINE = re.compile(
    r"(?i)(image/(png|jpeg|gif|webp|avif)|(audio|video)/[^\s,;]+|text/plain)(\s*;[^,]*)?"
)

#: Not run, whatever a browser is told to do with it.
SAFETY = {"Content-Security-Policy": "sandbox; default-src 'none'"}
#: Bytes of the largest file that is hashed for one answer; the wish of a client binds nobody.
MAX_HASHED = 4 << 20


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


async def repr_digest(wanted: str, record: FileRecord, storage: Storage) -> dict[str, str]:
    """Return the field, if any; `wanted` is the value of `Want-Repr-Digest`, empty for none.

    Of the digests in the record it has the one that is preferred, or all when nothing is asked.
    """
    known = record.digest or {}
    if not (wanted or known):
        return {}
    if algorithm := _preferred(wanted, known):
        known = {algorithm: known[algorithm]}
    elif (algorithm := wanted_digest(wanted)) and record.size <= MAX_HASHED:
        known = await _hashed(algorithm, record, storage)
    return {"Repr-Digest": digest_field(known)} if known else {}


def _preferred(wanted: str, known: Iterable[str]) -> str | None:
    members = (member.strip() for member in wanted.split(","))
    return wanted_digest(",".join(m for m in members if m.partition("=")[0].strip() in known))


async def _hashed(algorithm: str, record: FileRecord, storage: Storage) -> dict[str, str]:
    digester = Digester((), [algorithm])
    async with aclosing(storage.read(record.id, 0, record.size)) as chunks:
        async for chunk in chunks:
            await in_thread(None, digester.update, chunk)
    return digester.encoded()
