"""Content codings of streams: the negotiation, and compression without delay.

Every block can be decoded as soon as it arrives. Sources: RFC 9110, sections 8.4.1 and 12.5.3;
RFC 1952 (gzip); RFC 8878 (zstd).
"""

import re
import sys
import zlib
from abc import ABC, abstractmethod

from ..kernel.problem import Problem
from ..kernel.threads import in_thread

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdCompressor
else:
    from backports.zstd import CompressionParameter, ZstdCompressor

#: Bytes up to which compressing a block is faster than passing it to a thread.
INLINE_BYTES = 8 << 10


class Coding(ABC):
    """One stream in one content coding."""

    name: str

    @abstractmethod
    def compress(self, block: bytes) -> bytes:
        """Return the compressed block, flushed; blocking."""

    @abstractmethod
    def end(self) -> bytes:
        """Return the last bytes of the stream."""

    async def encode(self, block: bytes) -> bytes:
        """Return the compressed block, flushed; a large block is compressed in a thread."""
        if len(block) <= INLINE_BYTES:
            return self.compress(block)
        return await in_thread(None, self.compress, block)


class Zstd(Coding):
    """zstd at level 3; its default window of 2 MiB would be most of the memory of a slow stream."""

    name = "zstd"

    def __init__(self) -> None:
        parameter = CompressionParameter
        options: dict[int, int] = {parameter.compression_level: 3, parameter.window_log: 18}
        self._compressor = ZstdCompressor(options=options)

    def compress(self, block: bytes) -> bytes:
        return self._compressor.compress(block, ZstdCompressor.FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._compressor.flush()


class Gzip(Coding):
    """gzip at level 6 (RFC 1952): `encode` blocks of bytes, then send the result of `end`.

    Every encoded block can be decoded as soon as it arrives. One object is one stream.
    """

    name = "gzip"

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(6, wbits=31)

    def compress(self, block: bytes) -> bytes:
        return self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._compressor.flush()


#: Quoted strings, which can contain commas and semicolons (RFC 9110, section 5.6.4).
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
#: In order of preference.
CODINGS: tuple[type[Coding], ...] = (Zstd, Gzip)


def weights(field: str) -> dict[str, float]:
    """Return the quality of each member of an Accept field, by name in lower case.

    Parameters other than `q` are ignored (RFC 9110, section 12.4.2).
    """
    found: dict[str, float] = {}
    for member in _QUOTED.sub("", field).split(","):
        name, *parameters = (part.strip().lower() for part in member.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    quality = 0.0
        if name:
            found.setdefault(name, quality)
    return found


def negotiate_coding(accept_encoding: str) -> Coding | None:
    """Return the coding that a client prefers, None for no coding; raises Problem 406.

    If the field is missing or empty, the stream is not compressed.
    """
    wanted = weights(accept_encoding)
    if "x-gzip" in wanted:
        wanted.setdefault("gzip", wanted["x-gzip"])
    others = wanted.get("*", 0.0)
    best = max(CODINGS, key=lambda coding: wanted.get(coding.name, others))
    quality = wanted.get(best.name, others)
    if quality and quality >= wanted.get("identity", 0.0):
        return best()
    if wanted.get("identity", wanted.get("*", 1.0)):
        return None
    names = ", ".join(coding.name for coding in CODINGS)
    detail = f"The available codings are {names} and identity."
    raise Problem(406, detail, headers={"Vary": "Accept-Encoding"})
