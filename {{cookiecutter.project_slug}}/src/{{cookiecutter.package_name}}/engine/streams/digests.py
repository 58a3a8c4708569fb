"""Integrity digests: checked when a client sends them, computed when a client asks for one.

Never always: hashing costs more than everything else that an upload does.

Source: RFC 9530 (Digest Fields); the field values are dictionaries of RFC 8941, section 3.2.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping

from ..kernel.problem import Problem, ProblemType

MISMATCH = ProblemType(
    "digest-mismatch",
    "The bytes are not those of the digest",
    "What arrived is not what the digest or checksum of the request was made of: it was changed on"
    " the way, or the digest is wrong. Nothing of it is kept: send it again.",
)

#: The active algorithms of RFC 9530, section 5; the others are insecure and ignored.
_HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_DIGEST = re.compile(r"\s*([a-z*][a-z0-9_\-.*]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;.*)?")
_WANTED = re.compile(r"\s*([a-z*][a-z0-9_\-.*]*)\s*=\s*(\d)\s*(?:;.*)?")


def wanted_digest(field: str) -> str | None:
    """Return the algorithm that a `Want-Repr-Digest` field prefers among ours, if any.

    Preferences are integers from 0 (not acceptable) to 9; a field that is no dictionary is ignored.
    """
    offers = [match for member in field.split(",") if (match := _WANTED.fullmatch(member))]
    known = [(int(match[2]), match[1]) for match in offers if match[1] in _HASHES]
    preference, algorithm = max(known, default=(0, None))
    return algorithm if preference > 0 else None


def digest_field(digests: Mapping[str, str]) -> str:
    """Return digests, as base64 by algorithm, as the value of a digest field."""
    return ", ".join(f"{algorithm}=:{value}:" for algorithm, value in digests.items())


class Digester:
    """Hashes a representation once per algorithm that somebody sent or wants.

    `fields` are the values of `Content-Digest` and `Repr-Digest`, which mean the same for a body
    without content coding. Raises Problem 400 when a digest of a known algorithm is malformed.
    """

    def __init__(self, fields: Iterable[str], wanted: Iterable[str] = ()) -> None:
        self._expected: list[tuple[str, bytes]] = []
        for member in (member for field in fields for member in field.split(",")):
            match = _DIGEST.fullmatch(member)
            if match and match[1] in _HASHES:
                self._expected.append((match[1], _decode(match[2])))
            elif not match:
                raise Problem(400, "A digest field is a dictionary of byte sequences (RFC 9530).")
        algorithms = {algorithm for algorithm, _ in self._expected} | set(wanted)
        self._hashes = {algorithm: _HASHES[algorithm]() for algorithm in algorithms}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Hash the next bytes; releases the interpreter lock, so call it in the writing thread."""
        for state in self._hashes.values():
            state.update(data)

    def verify(self) -> None:
        """Raise Problem 400 when what was hashed is not what the client said it sends."""
        for algorithm, expected in self._expected:
            if self._hashes[algorithm].digest() != expected:
                raise Problem(
                    400, f"The body does not match its {algorithm} digest.", type=MISMATCH
                )

    def encoded(self) -> dict[str, str]:
        """Return the digests as base64 text by algorithm."""
        return {
            algorithm: base64.b64encode(state.digest()).decode()
            for algorithm, state in self._hashes.items()
        }


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # Also one that is not ASCII.
        raise Problem(400, "A digest is not valid base64.") from None
