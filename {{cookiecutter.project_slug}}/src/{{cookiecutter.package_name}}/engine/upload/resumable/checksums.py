"""The checksums of tus: of the bytes of one request, `Upload-Checksum: algorithm base64`.

Source: tus resumable upload protocol 1.0.0, checksum extension.
"""

import base64
import hashlib
import zlib

from ...kernel.problem import Problem
from ...streams.digests import MISMATCH


class _Crc32:
    """zlib's checksum, as a hash; four bytes, the first one the highest."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


ALGORITHMS = ("sha1", "sha256", "sha512", "md5", "crc32")


class Checksum:
    """Raises Problem 400 for a field that is none."""

    def __init__(self, field: str) -> None:
        algorithm, _, value = field.partition(" ")
        if algorithm not in ALGORITHMS or not value:
            raise Problem(400, f"A checksum is '{'|'.join(ALGORITHMS)} base64'.")
        self._expected = decoded(value)
        is_crc = algorithm == "crc32"
        self._hash = _Crc32() if is_crc else hashlib.new(algorithm, usedforsecurity=False)
        self.update = self._hash.update

    def verify(self) -> None:
        """Raise Problem 460 when the bytes are others."""
        if self._hash.digest() != self._expected:
            raise Problem(460, "The bytes do not match their checksum.", type=MISMATCH)


def decoded(text: str) -> bytes:
    """Decode base64; raises Problem 400."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # Also one that is not ASCII.
        raise Problem(400, "A value is not valid base64.") from None
