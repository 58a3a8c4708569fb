"""Integrity digests: checked when a client sends them, computed when a client requests one.

They are not computed for every file: hashing costs more than the rest of an upload.

Source: RFC 9530 (Digest Fields); the field values are dictionaries of RFC 8941, section 3.2.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping

from ..kernel.problem import Problem, ProblemType

MISMATCH = ProblemType(
    "digest-mismatch",
    "The bytes do not match the digest",
    "The bytes that arrived do not match the digest or checksum of the request. They were changed"
    " in transit, or the digest is wrong. The service has discarded them: send them again.",
)

#: The active algorithms of RFC 9530, section 5; the others are insecure, and ignored.
_HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_DIGEST = re.compile(r"\s*([a-z*][a-z0-9_\-.*]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;.*)?")
_WANTED = re.compile(r"\s*([a-z*][a-z0-9_\-.*]*)\s*=\s*(\d)\s*(?:;.*)?")


def wanted_digest(field: str) -> str | None:
    """Return the supported algorithm that a `Want-Repr-Digest` field prefers, if any.

    Preferences are integers from 0 (not acceptable) to 9; a malformed field is ignored.
    """
    offers = [match for member in field.split(",") if (match := _WANTED.fullmatch(member))]
    known = [(int(match[2]), match[1]) for match in offers if match[1] in _HASHES]
    preference, algorithm = max(known, default=(0, None))
    return algorithm if preference > 0 else None


def digest_field(digests: Mapping[str, str]) -> str:
    """Return the value of a digest field, from digests in base64 by algorithm."""
    return ", ".join(f"{algorithm}=:{value}:" for algorithm, value in digests.items())


class Digester:
    """Hashes a representation once for each algorithm that is sent or wanted.

    `fields` are the values of `Content-Digest` and `Repr-Digest`, which are equivalent for a body
    without content coding. Raises Problem 400 if a digest of a known algorithm is malformed.
    """

    def __init__(self, fields: Iterable[str], wanted: Iterable[str] = ()) -> None:
        self._expected: list[tuple[str, bytes]] = []
        for member in (member for field in fields for member in field.split(",")):
            match = _DIGEST.fullmatch(member)
            if match and match[1] in _HASHES:
                self._expected.append((match[1], _decode(match[2])))
            elif not match:
                detail = "A digest field must be a dictionary of byte sequences (RFC 9530)."
                raise Problem(400, detail)
        algorithms = {algorithm for algorithm, _ in self._expected} | set(wanted)
        self._hashes = {algorithm: _HASHES[algorithm]() for algorithm in algorithms}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Hash the next bytes; releases the GIL, so call it in the thread that writes."""
        for state in self._hashes.values():
            state.update(data)

    def verify(self) -> None:
        """Raise Problem 400 if the bytes do not match a digest of the client."""
        for algorithm, expected in self._expected:
            if self._hashes[algorithm].digest() != expected:
                detail = f"The body does not match its {algorithm} digest."
                raise Problem(400, detail, type=MISMATCH)

    def encoded(self) -> dict[str, str]:
        """Return the digests in base64, by algorithm."""
        hashes = self._hashes.items()
        return {name: base64.b64encode(state.digest()).decode() for name, state in hashes}


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # Includes text that is not ASCII.
        raise Problem(400, "A digest is not valid base64.") from None
