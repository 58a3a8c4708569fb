"""`Repr-Digest` of a stored file: what was computed when it came, or what a client wants now.

Source: RFC 9530, sections 3 and 4.
"""

from collections.abc import Iterable
from contextlib import aclosing

from ..storage import FileRecord, Storage
from ..streaming import Digester, digest_field, in_thread, wanted_digest

#: Bytes of the largest file that is hashed for one answer; the wish of a client binds nobody.
MAX_HASHED = 4 << 20


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
