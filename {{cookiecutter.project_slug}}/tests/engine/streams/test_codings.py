"""Content codings: the preference of the client, and compression without delay."""

import gzip
import random
import sys
import zlib
from collections.abc import Callable

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.streams.codings import (
    CODINGS,
    INLINE_BYTES,
    Coding,
    Zstd,
    negotiate_coding,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Decode one block, and a whole stream; the latter raises for a truncated stream.
DECODERS: dict[str, tuple[Callable[[], Callable[[bytes], bytes]], Callable[[bytes], bytes]]] = {
    "gzip": (lambda: zlib.decompressobj(wbits=31).decompress, gzip.decompress),
    "zstd": (lambda: zstd.ZstdDecompressor().decompress, zstd.decompress),
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_every_block_can_be_decoded_when_it_arrives(coding: type[Coding]) -> None:
    coder = coding()
    begin, whole = DECODERS[coder.name]
    decode = begin()
    blocks = [b"a", b"line\n" * 300, random.randbytes(INLINE_BYTES), b"x" * (200 << 10), b"end"]
    sent = b""
    for block in blocks:
        encoded = await coder.encode(block)
        assert decode(encoded) == block
        sent += encoded

    with pytest.raises((EOFError, zstd.ZstdError)):
        whole(sent)
    assert whole(sent + coder.end()) == b"".join(blocks)


@pytest.mark.parametrize("coding", CODINGS)
def test_an_empty_stream_is_a_whole_one(coding: type[Coding]) -> None:
    coder = coding()
    assert DECODERS[coder.name][1](coder.end()) == b""


def test_a_zstd_stream_needs_a_window_of_256_kib_on_both_sides() -> None:
    frame = Zstd().compress(b"x")
    window = frame[5]  # Its descriptor: RFC 8878, section 3.1.1.1.2.
    base = 1 << (10 + (window >> 3))

    assert frame[:4] == b"\x28\xb5\x2f\xfd"
    assert not frame[4] & 0b100000, "a single segment has no window"
    assert base + base // 8 * (window & 0b111) == 256 << 10


@pytest.mark.parametrize(
    ("accepted", "name"),
    [
        ("", None),
        ("identity", None),
        ("br, deflate", None),
        ("gzip", "gzip"),
        ("X-GZip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.5, gzip;q=0.8", "gzip"),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0, x-gzip", None),
        ("*", "zstd"),
        ("*;q=0.5, identity", None),
        ("gzip;q=0.5", "gzip"),
        ("gzip;q=0.5, identity;q=0.7", None),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("gzip, *;q=0", "gzip"),
        ("identity, *;q=0", None),
        (" , gzip ;Q=1.0 ,", "gzip"),
        ("gzip;q=high", None),
        ('br;a="x, gzip, y"', None),
    ],
)
def test_the_coding_is_the_one_that_the_client_prefers(accepted: str, name: str | None) -> None:
    coding = negotiate_coding(accepted)
    assert (coding and coding.name) == name


@pytest.mark.parametrize("accepted", ["identity;q=0", "*;q=0", "br, *;q=0"])
def test_a_client_that_accepts_nothing_available_is_told_so(accepted: str) -> None:
    with pytest.raises(Problem) as refusal:
        negotiate_coding(accepted)
    assert refusal.value.status_code == 406
