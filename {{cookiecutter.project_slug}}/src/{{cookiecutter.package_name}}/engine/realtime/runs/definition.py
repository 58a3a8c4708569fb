"""The definition of a run: its generator, and how its events are merged and continued."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import pydantic_core
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from ..messages import Message, message_of

T = TypeVar("T")

#: Returns fewer messages, which mean the same as consecutive messages of a run.
Compact = Callable[[list[Message]], list[Message]]

logger = logging.getLogger(__name__)

_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
#: Errors of a body that are listed: each takes far more memory than the byte that causes it.
MAX_ERRORS = 100
#: The attribute of a generator function that has its definition.
_ATTRIBUTE = "run_definition"


@dataclass(frozen=True)
class Definition:
    """A registered run; `resume` is called like `function`, with all messages so far before that.

    The log of a run that has `compact` or `resume` is kept whole, in parts.
    """

    name: str
    function: Callable[..., AsyncGenerator[Any]]
    compact: Compact | None = None
    resume: Callable[..., AsyncGenerator[Any]] | None = None

    @property
    def id(self) -> str:
        """The name of the function, which is the same in all processes."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def keeps_log(self) -> bool:
        return self.compact is not None or self.resume is not None

    @cached_property
    def adapter(self) -> TypeAdapter[AsyncGenerator[Any]]:
        """Calls the function with the members of a JSON object."""
        return TypeAdapter(cast(Any, self.function))

    def open(self, parameters: bytes | Mapping[str, Any]) -> AsyncGenerator[Any]:
        """Return the generator for parameters, or JSON; raises RequestValidationError (422)."""
        return validated(self.adapter, parameters)

    def reopen(self, body: bytes, messages: list[Message]) -> AsyncGenerator[Any]:
        """Return the generator that continues after the messages."""
        again: Any = partial(cast(Any, self.resume), messages)
        return validated(TypeAdapter[AsyncGenerator[Any]](again), body)

    def merged(self, messages: list[Message]) -> list[Message]:
        """Return messages that mean the same, compacted if the run can do that."""
        if self.compact is None or not messages:
            return messages
        try:
            return [message_of(each) for each in self.compact(messages)] or messages
        except Exception:
            logger.exception("The events of the run %s cannot be compacted", self.name)
            return messages


def define(definition: Definition) -> None:
    """Remember the definition of a function."""
    setattr(definition.function, _ATTRIBUTE, definition)


def definition_of(function: Any) -> Definition:
    """Return the definition; raises TypeError if the function is not a registered run."""
    definition = getattr(function, _ATTRIBUTE, None)
    if not isinstance(definition, Definition):
        raise TypeError(f"{function!r} is not registered with `RunRouter.run`")
    return definition


def validated(adapter: TypeAdapter[T], body: bytes | Mapping[str, Any]) -> T:
    """Return a JSON object as a pydantic adapter validates it; raises RequestValidationError."""
    try:
        if not isinstance(body, bytes):
            return adapter.validate_python(body)  # Parsing it again would cost more than the rest.
        if body and not body.lstrip().startswith(b"{"):
            # The adapter of a function accepts a list, too, as positional arguments.
            _OBJECT.validate_json(body)
        return adapter.validate_json(body or b"{}", strict=True)
    except ValidationError as error:
        found: list[dict[str, Any]]
        if (count := error.error_count()) > MAX_ERRORS:
            found = [{"type": "too_many", "loc": ("body",), "msg": f"{count} errors."}]
            raise RequestValidationError(found) from None
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        found = [{**each, "loc": ("body", *each["loc"])} for each in errors]
        raise RequestValidationError(found) from None


def json_of(parameters: Mapping[str, Any]) -> bytes:
    """Return parameters as the JSON body that a client would send."""
    return pydantic_core.to_json(parameters, inf_nan_mode="null")
