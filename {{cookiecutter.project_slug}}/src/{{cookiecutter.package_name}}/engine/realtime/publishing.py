"""Publishing over HTTP: how often a client may, and how it may safely do so twice.

Source: draft-ietf-httpapi-idempotency-key-header.
"""

import hashlib
import math
import re
import time
from typing import Annotated

from fastapi import Header, Request

from ..kernel.admission import client_of
from ..kernel.problem import INVALID, Problem, ProblemType
from .backends import Once

#: Clients whose rate is remembered.
MAX_CLIENTS = 10_000

TOO_MANY = ProblemType(
    "too-many-events",
    "Too many events",
    "One client may publish only so many events per second. This one was not published: do so after"
    " the seconds that `Retry-After` says.",
)

_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="With the same key an event is published only once.",
        json_schema_extra={"pattern": f"^{_KEY.pattern}$"},
    ),
]


def once(request: Request, key: str | None, *parts: bytes | str | None) -> Once | None:
    """Return what tells apart a repeated publication of `parts`; raises Problem 422."""
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Problem(422, "An Idempotency-Key is 1 to 255 visible characters.", type=INVALID)
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return Once(f"{client_of(request)} {request.url.path} {key}", digest)


class PublishRate:
    """How many events each client may publish per second, with bursts of as many."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        #: By client, the one first that published longest ago: what it has left, and since when.
        self._left: dict[str, tuple[float, float]] = {}

    def spend(self, client: str) -> None:
        """Count one event; raises Problem 429 with Retry-After when it is too many."""
        rate = self._rate
        if rate is None:
            return
        now, most = time.monotonic(), max(rate, 1.0)
        left, since = self._left.pop(client, (most, now))
        left = min(left + (now - since) * rate, most)
        self._left[client] = (max(left - 1, 0.0) if left >= 1 else left, now)
        if len(self._left) > MAX_CLIENTS:
            del self._left[next(iter(self._left))]
        if left < 1:
            seconds = math.ceil((1 - left) / rate)
            headers = {"Retry-After": str(seconds)}
            raise Problem(429, "Too many events.", type=TOO_MANY, headers=headers)
