"""Messages: JSON or text, with an optional event type and key, and protection against repeats.

Sources: WHATWG HTML, section 9.2.5 (characters in a field); RFC 8259 (JSON);
draft-ietf-httpapi-idempotency-key-header.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import pydantic_core

from ..kernel.problem import INVALID, Problem, ProblemType
from ..streams.content import escape_line_ends

KEY_REUSED = ProblemType(
    "idempotency-key-reused",
    "The idempotency key was used before",
    "An `Idempotency-Key` identifies one event or run, and this key was sent with a different one."
    " Repeat a request without changes, and send a new one with a new key.",
)

JSON = "application/json"
#: The media types that can be published.
MEDIA_TYPES = (JSON, "text/plain")
#: Event types that only the service sends; `EventSource` itself fires `open` and `error`.
RESERVED = {"reset", "reconnect", "error", "end", "open", "reauth"}
#: The type of an event without one (WHATWG HTML, section 9.2.6).
DEFAULT = "message"
_STRING_OR_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')
NAME = r"[A-Za-z0-9_.:-]{1,128}"
_NAME = re.compile(NAME, re.ASCII)


@dataclass(frozen=True, slots=True)
class Message:
    """One published message; `data` is JSON when `is_json`, with escaped line ends, else any text.

    `event` is its type, of letters, digits, `_`, `.`, `:` and `-`; `message` is the same as none.
    `reset`, `reconnect`, `error`, `end`, `open` and `reauth` are reserved. Raises
    UnicodeEncodeError for half a surrogate pair.
    """

    data: str
    event: str | None = None
    is_json: bool = False
    #: With the policy `coalesce` a message replaces the previous one that has the same key.
    key: str | None = None

    def __post_init__(self) -> None:
        self.data.encode()  # Checked here: the error would end the stream of every subscriber.
        if self.event == DEFAULT:
            object.__setattr__(self, "event", None)
        if self.is_json:
            object.__setattr__(self, "data", escape_line_ends(self.data))


class Once(NamedTuple):
    """Identifies a publication, so that it has an effect only once.

    `key` is the sender's, `fingerprint` a digest of the content, and `nonce` is of one attempt.
    """

    key: str
    fingerprint: str
    nonce: str = ""

    @property
    def stored(self) -> str:
        """The text that a broker keeps with the key; it has no spaces."""
        return f"{self.fingerprint}.{self.nonce}" if self.nonce else self.fingerprint

    def is_mine(self, stored: str) -> bool:
        """Whether this attempt was the first; raises Problem 422 for another fingerprint."""
        fingerprint, _, nonce = stored.partition(".")
        if fingerprint != self.fingerprint:
            raise Problem(422, "This Idempotency-Key was used before.", type=KEY_REUSED)
        return nonce == self.nonce


def check_names(event: str | None, key: str | None = None) -> None:
    """Raise Problem 422 for a reserved or malformed event type or key."""
    if event is not None and (event in RESERVED or not _NAME.fullmatch(event)):
        raise _invalid("/query/event", "This event type is reserved or malformed.", "event_type")
    if key is not None and not _NAME.fullmatch(key):
        raise _invalid("/query/key", "This key is malformed.", "key")


def message_of(item: object, event: str | None = None, key: str | None = None) -> Message:
    """Return a message from text, from anything that pydantic serializes, or a `Message` unchanged.

    Raises Problem 422 for a reserved or malformed event type or key.
    """
    if isinstance(item, Message):
        message = item
    elif isinstance(item, str):
        message = Message(item, event, key=key)
    else:
        text = pydantic_core.to_json(item, by_alias=False, inf_nan_mode="null").decode()
        message = Message(text, event, is_json=True, key=key)
    check_names(message.event, message.key)
    return message


def parse_message(body: bytes, media_type: str, event: str | None, key: str | None) -> Message:
    """Return the message in a body of one of the `MEDIA_TYPES`.

    Raises Problem 422 for a reserved or malformed event type, invalid JSON (the detail has the
    place) or text that is not UTF-8.
    """
    check_names(event, key)
    if media_type == JSON:
        return Message(_compact(body), event, is_json=True, key=key)
    try:
        return Message(body.decode(), event, key=key)
    except UnicodeDecodeError as error:
        detail = f"The text is not UTF-8 at byte {error.start}."
        raise _invalid("/body", detail, "text_invalid") from None


def _compact(body: bytes) -> str:
    try:
        # Strict: NaN and Infinity are not JSON, and many parsers refuse them.
        pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _invalid("/body", f"Invalid JSON: {error}.", "json_invalid") from None
    # Only the space between tokens is removed, so that numbers keep all their digits.
    return _STRING_OR_SPACE.sub(r"\1", body.decode())


def _invalid(pointer: str, detail: str, code: str) -> Problem:
    error = {"pointer": pointer, "detail": detail, "code": code}
    return Problem(422, detail, type=INVALID, errors=[error])
