"""The settings of streams, and the units of all settings sections.

A size is written `10 GiB` or as a number of bytes, a duration `30 s` or as a number of seconds.
"""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, TypeAdapter

_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)?\s*")


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if not match:
        raise ValueError("a duration is a number with ms, s, min, h or d, such as '30 s'")
    return float(match[1]) * _UNITS[match[2] or "s"]


#: Seconds, as a float; a setting of this type accepts `30 s`, `5 min`, `1 h`, `1 d` or a number.
Duration = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
#: Bytes, as an int; a setting of this type accepts `64 KiB`, `10 GiB` or a number.
Size = Annotated[int, BeforeValidator(TypeAdapter(ByteSize).validate_python), Field(gt=0)]


class Section(BaseModel):
    """A section of the settings, frozen; a misspelt name is an error.

    As the field `mail: MailSettings` of `Settings` its variables are `APP_MAIL__…`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamingSettings(Section):
    """The limits of streams: `APP_STREAMING__…`."""

    idle_timeout: Annotated[Duration, Field(gt=0)] = 30.0
    """Seconds for which a request body may stall."""
    min_rate: Size = 512
    """Bytes per second that a request body must reach on average, after the first idle timeout."""
    max_body: Size = 1 << 20
    """Bytes of a request body that a path operation reads itself, and of a WebSocket message."""
    max_form: Size = 100 << 20
    """Bytes of a form with files that a path operation reads itself."""
    send_timeout: Annotated[Duration, Field(gt=0)] = 30.0
    """Seconds in which a client must accept one chunk of a response."""
    heartbeat: Annotated[Duration, Field(gt=0)] = 15.0
    """Seconds of silence after which an event stream of a path operation sends a comment."""
    max_streams: Annotated[int, Field(gt=0)] = 10_000
    """Concurrent streams of one module; others are refused with 503."""
    max_streams_per_client: Annotated[int, Field(gt=0)] = 1000
    """Concurrent streams of one user, or one address, in a module; others are rejected with 429."""
    threads: Annotated[int, Field(gt=0)] = 8
    """Threads for synchronous sources."""

    def by_module(self, sections: Iterable[tuple[str, object]]) -> "dict[str, StreamingSettings]":
        """Return the limits of each module whose section may set its own, by name."""
        return {
            name: self.model_copy(update=section.model_dump(include=_LIMITS, exclude_none=True))
            for name, section in sections
            if isinstance(section, ModuleLimits)
        }


class ModuleLimits(Section):
    """The limits that the section of a module may set instead of `APP_STREAMING__…`."""

    idle_timeout: Annotated[Duration, Field(gt=0)] | None = None
    min_rate: Size | None = None
    send_timeout: Annotated[Duration, Field(gt=0)] | None = None
    max_streams: Annotated[int, Field(gt=0)] | None = None
    max_streams_per_client: Annotated[int, Field(gt=0)] | None = None


_LIMITS = set(ModuleLimits.model_fields)
