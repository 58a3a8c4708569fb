"""Integrity digests: checked when a client sends them, computed when a client requests one.

They are not computed for every file: hashing costs more than the rest of an upload.

Source: RFC 9530 (Digest Fields); the field values are dictionaries of RFC 9651.
"""

import base64
import hashlib
from collections.abc import Container, Iterable, Mapping

from ..kernel.problem import Problem, ProblemType
from .structured import parse_dictionary

MISMATCH = ProblemType(
    "digest-mismatch",
    "The bytes do not match the digest",
    "The bytes that arrived do not match the digest or checksum of the request. They were changed"
    " in transit, or the digest is wrong. The service has discarded them: send them again.",
)

#: The active algorithms of RFC 9530, section 5; the others are insecure, and ignored.
_HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


def wanted_digest(field: str, among: Container[str] = _HASHES) -> str | None:
    """Return the algorithm that a `Want-Repr-Digest` field prefers among the given ones, if any.

    Preferences are integers from 0 (not acceptable) to 9; a malformed field is ignored.
    """
    try:
        offers = parse_dictionary(field)
    except ValueError:
        return None
    # `True` is the value of a key without one.
    preferences = {key: each for key, each in offers.items() if type(each) is int and each <= 9}
    known = [(each, key) for key, each in preferences.items() if key in among]
    preference, algorithm = max(known, default=(0, None))
    return algorithm if preference > 0 else None


def digest_field(digests: Mapping[str, str]) -> str:
    """Return the value of a digest field, from digests in base64 by algorithm."""
    return ", ".join(f"{algorithm}=:{value}:" for algorithm, value in digests.items())


class Digester:
    """Hashes a representation once for each algorithm that is sent or wanted.

    `fields` are the values of `Content-Digest` and `Repr-Digest`, which are equivalent for a body
    without content coding; all lines of a field are one value. Raises Problem 400 if a field is
    malformed.
    """

    def __init__(self, fields: Iterable[str], wanted: Iterable[str] = ()) -> None:
        self._expected: list[tuple[str, bytes]] = []
        for field in fields:
            try:
                members = parse_dictionary(field)
            except ValueError:
                raise _malformed() from None
            for algorithm, expected in members.items():
                if not isinstance(expected, bytes):
                    raise _malformed()
                if algorithm in _HASHES:
                    self._expected.append((algorithm, expected))
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


def _malformed() -> Problem:
    return Problem(400, "A digest field must be a dictionary of byte sequences (RFC 9530).")
