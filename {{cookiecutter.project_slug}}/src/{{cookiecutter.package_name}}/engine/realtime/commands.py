"""What a WebSocket client may ask for: a JSON object, with its `type`."""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..kernel.body import TOO_LARGE
from ..kernel.problem import Problem, invalid
from .messages import JSON, Message, parse_message
from .topics import parse_topics


class _Command(BaseModel):
    # A misspelt `last_event_id` would lose events without a word.
    model_config = ConfigDict(extra="forbid", strict=True)

    ref: int | Annotated[str, Field(max_length=128)] | None = None
    """Comes back in the answer."""


class Subscribe(_Command):
    """Follow topics and prefixes, from behind an event or from now on."""

    type: Literal["subscribe"]
    topics: list[str]
    last_event_id: str | None = None

    def names(self) -> tuple[str, ...]:
        """Return the topics; raises Problem 422 for malformed ones."""
        return parse_topics(",".join(self.topics))


class Unsubscribe(_Command):
    """Follow them no more."""

    type: Literal["unsubscribe"]
    topics: list[str]


class Publish(_Command):
    """Publish JSON on one topic."""

    type: Literal["publish"]
    topic: str
    data: Any
    event: str | None = None
    key: str | None = None

    def message(self, text: str, max_size: int) -> Message:
        """Return the message; `text` is that of the command.

        Raises Problem 413 for more than `max_size` bytes, and what `parse_message` raises.
        """
        data = _text_of(text, "data").encode()
        if len(data) > max_size:
            detail = f"An event has at most {max_size} bytes."
            raise Problem(413, detail, type=TOO_LARGE, limit=max_size)
        return parse_message(data, JSON, self.event, self.key)


Command = Subscribe | Unsubscribe | Publish

_COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="type")])
_COLON = re.compile(r":\s*")
# Numbers are only skipped: converting a long one takes its time.
_SKIPPING = json.JSONDecoder(parse_int=str, parse_float=str)


def parse_command(text: str) -> Command:
    """Return what a client asks for; raises Problem 422 for anything else."""
    try:
        return _COMMAND.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        # The first part of a place is the type.
        errors = [{**each, "loc": each["loc"][1:]} for each in found]
        raise invalid(errors, "This is no command.") from None


def _text_of(text: str, member: str) -> str:
    """Return a member's value as it is written, so that numbers keep all their digits.

    `text` is a JSON object that has been parsed, and has this member.
    """
    end = 0
    while True:
        name, end = _SKIPPING.raw_decode(text, text.index('"', end))
        start = next(_COLON.finditer(text, end)).end()
        _, end = _SKIPPING.raw_decode(text, start)
        if name == member:
            return text[start:end]
