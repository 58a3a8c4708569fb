"""What a publisher may send: JSON or text, with an event type that is not one of ours.

Sources: WHATWG HTML, section 9.2.5 (what may stand in a field); RFC 8259 (JSON).
"""

import re
from dataclasses import dataclass

import pydantic_core

from ..kernel.problem import INVALID, Problem

JSON = "application/json"
#: Of what may be published.
MEDIA_TYPES = (JSON, "text/plain")
#: Events that only the service sends.
RESERVED = {"reset", "reconnect", "error", "end", "reauth"}
_STRING_OR_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')
NAME = r"[A-Za-z0-9_.:-]{1,128}"
_NAME = re.compile(NAME, re.ASCII)


@dataclass(frozen=True, slots=True)
class Message:
    """One published message; `data` is JSON text when `is_json`, else any text.

    `event` is its type, of letters, digits, `_`, `.`, `:` and `-`; `reset`, `reconnect`, `error`,
    `end` and `reauth` are the service's. Raises UnicodeEncodeError for half a surrogate pair.
    """

    data: str
    event: str | None = None
    is_json: bool = False
    #: What this is the newest state of, for topics that send only that to slow subscribers.
    key: str | None = None

    def __post_init__(self) -> None:
        self.data.encode()  # Half a surrogate pair would fail all subscribers, again and again.


def check_names(event: str | None, key: str | None = None) -> None:
    """Raise Problem 422 for a reserved or malformed event type or key."""
    if event is not None and (event in RESERVED or not _NAME.fullmatch(event)):
        raise _invalid("/query/event", "This event type is reserved or malformed.", "event_type")
    if key is not None and not _NAME.fullmatch(key):
        raise _invalid("/query/key", "This key is malformed.", "key")


def message_of(item: object, event: str | None = None, key: str | None = None) -> Message:
    """Return a message of text, of anything that pydantic makes JSON of, or a `Message` as it is.

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

    Raises Problem 422 for a reserved or malformed event type, invalid JSON (with the place) or text
    not in UTF-8.
    """
    check_names(event, key)
    if media_type == JSON:
        return Message(_compact(body), event, is_json=True, key=key)
    return Message(_text(body), event, key=key)


def _compact(body: bytes) -> str:
    try:
        # Strict: NaN and Infinity are no JSON, and a client's parser would choke on them.
        pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _invalid("/body", f"Invalid JSON: {error}.", "json_invalid") from None
    # The text itself, less the space between its tokens: numbers keep all their digits.
    return _STRING_OR_SPACE.sub(r"\1", body.decode())


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        detail = f"The text is not UTF-8 at byte {error.start}."
        raise _invalid("/body", detail, "text_invalid") from None


def _invalid(pointer: str, detail: str, code: str) -> Problem:
    error = {"pointer": pointer, "detail": detail, "code": code}
    return Problem(422, detail, type=INVALID, errors=[error])
