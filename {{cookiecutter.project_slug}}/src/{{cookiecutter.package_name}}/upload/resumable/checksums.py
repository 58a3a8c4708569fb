"""The checksums of tus: of the bytes of one request, `Upload-Checksum: algorithm base64`.

Source: tus resumable upload protocol 1.0.0, checksum extension.
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable
from typing import Any

from ...streaming import Problem


class _Crc32:
    """zlib's checksum, as a hash; four bytes, the first one the highest."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


ALGORITHMS: dict[str, Callable[[], Any]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "crc32": _Crc32,
}


class Checksum:
    """The checksum of one request: `Upload-Checksum: algorithm base64`."""

    def __init__(self, algorithm: str, expected: bytes) -> None:
        self._expected = expected
        self._hash = ALGORITHMS[algorithm]()
        self.update = self._hash.update

    def verify(self) -> None:
        """Raise Problem 460 when the bytes are others."""
        if self._hash.digest() != self._expected:
            raise Problem(460, "The bytes do not match their checksum.")


def checksum_of(fields: list[str]) -> Checksum | None:
    """Return the checksum in `Upload-Checksum` fields; raises Problem 400 for a wrong one."""
    if not fields:
        return None
    algorithm, _, value = fields[0].partition(" ")
    if len(fields) > 1 or algorithm not in ALGORITHMS or not value:
        raise Problem(400, f"A checksum is '{'|'.join(ALGORITHMS)} base64'.")
    return Checksum(algorithm, decoded(value))


def decoded(text: str) -> bytes:
    """Decode base64; raises Problem 400."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Problem(400, "A value is not valid base64.") from None
