"""The one reader of a request body.

Starlette's `request.stream()` has no limit and waits for ever; two readers of `receive` lose
chunks. Every body of this service goes through here instead.

Sources: RFC 9110, sections 8.3 (Content-Type), 8.4 (Content-Encoding), 8.6 (Content-Length),
12.5.3 (Accept-Encoding), 14.5 (Content-Range), 15.5.9 (408), 15.5.14 (413), 15.5.16 (415); W3C LDP
1.0 (Accept-Post).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from .deadlines import Deadline
from .fields import members
from .parameters import parameters
from .problem import Problem, ProblemType

if TYPE_CHECKING:
    from .exchange import Exchange

#: Bytes that are read though nobody wants them.
UNWANTED = 16 << 20

TOO_LARGE = ProblemType(
    "too-large",
    "Too large",
    "What was sent or announced has more bytes, or more parts, than are taken here; where it is a"
    " matter of bytes, `limit` says how many may come. The same again will be refused again.",
)
TOO_SLOW = ProblemType(
    "too-slow",
    "The body came too slowly",
    "No byte of the body came for too long, or all of them came too slowly. Send it again. An"
    " upload that can be resumed loses its connection instead, or gets a 503, and goes on from its"
    " offset.",
)
ENCODED = ProblemType(
    "encoded-body",
    "The body is encoded",
    "The bytes are wanted as they are, not compressed. Send them without `Content-Encoding`.",
)
PARTIAL = ProblemType(
    "partial-body",
    "The body is a piece of something",
    "The request says that its body is one of several pieces, as `Content-Range` does; stored as a"
    " whole it would be a wrong one. Send the whole in one request, or a file by resumable uploads"
    " (`/uploads`), where the service has them: they put pieces together.",
)
#: How clients name the place of a piece; the second as the nginx upload module reads it.
_PLACES = ("content-range", "x-content-range")

#: Its names, and those of its subset. To look a name up would import and remember what clients say.
_UTF_8 = {"utf-8", "utf8", "us-ascii", "ascii"}


class RequestBody:
    """Iterate a request body in the chunks in which it arrives (bytes, never empty).

    Making one raises Problem 400 for a piece of a whole. Iterating it raises Problem 413 when the
    body is declared or counted above `limit` bytes, Problem 408 when it stalls or arrives below the
    minimum rate, and ClientDisconnect when the client leaves before the body's end.
    """

    def __init__(self, request: Request, limit: int) -> None:
        for name in _PLACES:
            if name in request.headers:
                raise partial_body(f"`{name}`")
        exchange: Exchange = request.scope["exchange"]
        limits = exchange.limits
        self._receive = request.receive
        self._idle, self._min_rate = limits.idle_timeout, limits.min_rate
        self._deadline = Deadline()
        # An empty body is one message, which may go to whoever watches for the client to leave.
        self._more = not exchange.body_complete
        self._waited = 0.0
        self.limit = limit
        self.declared = exchange.declared
        self.received = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.declared is not None and self.declared > self.limit:
            raise self._too_large()
        while self._more:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            self._more = message.get("more_body", False)
            self.received += len(chunk)
            if self.received > self.limit:
                raise self._too_large()
            if chunk:
                return chunk
        self._deadline.end()
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """Return the whole body; for small ones, as the limit is the memory that it may take."""
        return b"".join([chunk async for chunk in self])

    async def _next(self) -> Message:
        # Only the time that the client keeps us waiting counts: a slow disk is not its fault.
        budget = self._idle + self.received / self._min_rate - self._waited
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            with self._deadline.within(min(budget, self._idle)):
                return await self._receive()
        except TimeoutError:
            detail = "The body stalled or arrived too slowly."
            raise Problem(408, detail, type=TOO_SLOW) from None
        finally:
            self._waited += clock() - started

    def _too_large(self) -> Problem:
        detail = f"The body may have at most {self.limit} bytes."
        return Problem(413, detail, type=TOO_LARGE, limit=self.limit)


class ContentType(NamedTuple):
    """The media type of a body, and its parameters, by name; names are in lower case."""

    media_type: str
    parameters: dict[str, str]


async def whole_request(request: Request) -> None:
    """Wait for the end of a request whose body means nothing, before anything is done for it.

    A dependency for routes that change something: an incomplete request must not (RFC 9112, section
    8). Raises Problem 408 for a stalled body and 413 for one above 16 MiB.
    """
    async for _ in RequestBody(request, UNWANTED):
        pass


def refuse_coding(request: Request) -> None:
    """Raise Problem 415 for a body with a content coding, whose bytes stand for others."""
    codings = members(request.headers.raw, b"content-encoding")
    if any(coding != b"identity" for coding in codings):
        detail, headers = "Send the body without content coding.", {"Accept-Encoding": "identity"}
        raise Problem(415, detail, type=ENCODED, headers=headers)


def partial_body(sign: str) -> Problem:
    """Return the problem for a body that is a piece of a whole, as `sign` says."""
    return Problem(400, f"{sign} says that this is a piece of a whole.", type=PARTIAL)


def require_text(request: Request, *media_types: str) -> ContentType:
    """Return the content type of a body that is to be read as UTF-8.

    Raises Problem 415 for one of none of the media types, where some are given, and for one that
    says that its bytes are in another charset or in a content coding.
    """
    refuse_coding(request)
    # RFC 9110, section 12.5.3: no Accept-Encoding here, which would blame the coding.
    taken = ", ".join(media_types)
    headers = {"Accept": taken, "Accept-Post": taken} if taken else {}
    try:
        content_type = ContentType(*parameters(request.headers.get("content-type", "")))
    except ValueError as error:
        raise Problem(415, f"In the Content-Type {error}: send UTF-8.", headers=headers) from None
    if media_types and content_type.media_type not in media_types:
        raise Problem(415, f"Send {' or '.join(media_types)}, in UTF-8.", headers=headers)
    charset = content_type.parameters.get("charset", "utf-8")
    if charset.lower() not in _UTF_8:
        detail = f"The charset {charset[:40]!r} is not read here: send UTF-8."
        raise Problem(415, detail, headers=headers)
    return content_type
