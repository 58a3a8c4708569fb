"""The names of topics, the ids of events, and the policies of topics, as they are written."""

import re
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, NamedTuple

from ..kernel.problem import INVALID, Problem, ProblemType

FULL = ProblemType(
    "too-many-subscribers",
    "The topic has too many subscribers",
    "As many clients follow one of the topics as may. Come back after the seconds of"
    " `Retry-After`, or follow others.",
)

if TYPE_CHECKING:
    from .ring import Event

#: Topics and prefixes of one subscription.
MAX_TOPICS = 32

TOPIC = r"[A-Za-z0-9_.-]{1,128}"
#: A topic or a prefix.
_PART = "(" + TOPIC + r"|[A-Za-z0-9_.-]{0,127}\.\*)"
SELECTION = _PART + "(," + _PART + "){0,31}"

_TOPIC = re.compile(TOPIC, re.ASCII)
_DOT = re.compile(r"\.")
_POSITION = re.compile(r"([0-9a-z]+)-(\d{1,18})", re.ASCII)


class Position(NamedTuple):
    """The number of an event, and the epoch that tells apart what two brokers numbered alike.

    Clients keep it as text and send it back. It has no version: a text that is no position of this
    broker is one of another epoch, and its client is told of a gap.
    """

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, event_id: str) -> "Position":
        """Return the position behind an event; of no epoch, for what is no id of ours."""
        match = _POSITION.fullmatch(event_id)
        return cls(match[1], int(match[2])) if match else cls("", 0)


def offered_position(*offered: str | None) -> str | None:
    """Return the first position that a client names; an empty one is none (WHATWG HTML, 9.2.3)."""
    return next(filter(None, (each.strip() for each in offered if each)), None)


def parse_topic(name: str) -> str:
    """Return the name of one topic; raises Problem 422 for anything else."""
    if not _TOPIC.fullmatch(name):
        raise _invalid("A topic is 1 to 128 of the characters A-Z, a-z, 0-9, _, . and -.")
    return name


def parse_topics(names: str) -> tuple[str, ...]:
    """Return the topics and prefixes (`name.*`) of a list with commas, each once, in order.

    Raises Problem 422 for a malformed list, and for one of more than MAX_TOPICS.
    """
    parts = tuple(sorted(set(names.split(","))))
    if len(parts) > MAX_TOPICS:
        raise _invalid(f"A subscription has at most {MAX_TOPICS} topics.")
    for part in parts:
        parse_topic(part.removesuffix("*") if part.endswith(".*") else part)
    return parts


def covers(part: str, topic: str) -> bool:
    """Whether a topic is the one that is named, or starts with the prefix that is named."""
    return topic == part or (part.endswith(".*") and topic.startswith(part[:-1]))


def parts_of(topic: str) -> list[str]:
    """Return what covers a topic: its name, and the prefixes that it starts with."""
    return [topic, *(topic[: dot.end()] + "*" for dot in _DOT.finditer(topic))]


def policy_of(name: str, policies: dict[str, str]) -> str:
    """Return the policy of the first part that covers a topic or prefix."""
    return next((policy for part, policy in policies.items() if covers(part, name)), "disconnect")


def topic_full() -> Problem:
    detail, headers = "The topic has too many subscribers.", {"Retry-After": "5"}
    return Problem(503, detail, type=FULL, headers=headers)


def _invalid(detail: str) -> Problem:
    error = {"pointer": "/path/topics", "detail": detail, "code": "topic_invalid"}
    return Problem(422, detail, type=INVALID, errors=[error])


#: What an event replaces, by the policy of its topic.
POLICIES: dict[str, Callable[["Event"], Hashable]] = {
    "disconnect": lambda event: None,
    "latest": lambda event: event.topic,
    "coalesce": lambda event: (event.topic, event.message.key) if event.message.key else None,
}


def parse_policies(text: str) -> dict[str, str]:
    """Return the policy of each topic or prefix in `topic=policy,prefix.*=policy`."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    return {name.strip(): policy.strip() for name, _, policy in pairs}
