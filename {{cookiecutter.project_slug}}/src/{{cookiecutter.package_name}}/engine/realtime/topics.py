"""Names of topics, positions in the sequence of events, and policies for slow subscribers."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from starlette.requests import HTTPConnection

from ..kernel.access import ADMIN, principal_of, require
from ..kernel.problem import INVALID, Problem, ProblemType

READ_ONLY = ProblemType(
    "topic-read-only",
    "Clients cannot publish on this topic",
    "Only the service itself publishes on this topic, such as `files`. Follow it, or publish on"
    " another topic.",
)

#: Scopes, each followed by the name of a topic or a prefix.
PUBLISH, SUBSCRIBE = "topics:publish:", "topics:subscribe:"
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
    """The number of an event in an epoch; two brokers, or two starts of one, have different epochs.

    Clients store its text and send it back. The text has no version: a malformed one counts as a
    position of another epoch, so its client receives a `reset`.
    """

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, event_id: str) -> "Position":
        """Return the position of an event; its epoch is empty if the id is malformed."""
        match = _POSITION.fullmatch(event_id)
        return cls(match[1], int(match[2])) if match else cls("", 0)


def offered_position(*offered: str | None) -> str | None:
    """Return the first position that is not empty (WHATWG HTML, section 9.2.3), or None."""
    return next(filter(None, (each.strip() for each in offered if each)), None)


def is_topic(name: str) -> bool:
    """Whether this can be the name of a topic."""
    return _TOPIC.fullmatch(name) is not None


def parse_topic(name: str) -> str:
    """Return the name of one topic; raises Problem 422 if it is malformed."""
    if not is_topic(name):
        raise _invalid("A topic is 1 to 128 of the characters A-Z, a-z, 0-9, _, . and -.")
    return name


def check_writable(topic: str, read_only: Iterable[str]) -> None:
    """Raise Problem 403 if a topic is among those topics and prefixes that are read-only."""
    if any(covers(part, topic) for part in read_only):
        raise Problem(403, "Only the service publishes on this topic.", type=READ_ONLY)


def check_readable(
    connection: HTTPConnection, names: Iterable[str], personal: Iterable[str]
) -> None:
    """Raise Problem 401 or 403 if the sender may not follow each of the topics and prefixes.

    Every principal may follow the `personal` topics, which consist of one topic for each owner:
    `files` of `files.OWNER`. Only `admin` may follow those of others.
    """
    principal = principal_of(connection)
    for name in names:
        topic = next((each for each in personal if f"{name}.".startswith(f"{each}.")), None)
        if topic is None:
            require(connection, SUBSCRIBE + name)
        elif principal is None or name not in (topic, f"{topic}.{principal.id}"):
            require(connection, ADMIN)


def names_of_owner(
    names: tuple[str, ...], personal: Iterable[str], owner: str | None
) -> tuple[str, ...]:
    """Return names in which those of `personal` topics are replaced; None stands for all owners."""
    found = set(names)
    for topic in found.intersection(personal):
        found.discard(topic)
        found |= {topic, f"{topic}.*"} if owner is None else {f"{topic}.{owner}"}
    return tuple(sorted(found))


def parse_topics(names: str) -> tuple[str, ...]:
    """Return the topics and prefixes (`name.*`) of a comma-separated list, sorted, without repeats.

    Raises Problem 422 if the list is malformed or has more than MAX_TOPICS.
    """
    parts = tuple(sorted(set(names.split(","))))
    if len(parts) > MAX_TOPICS:
        raise _invalid(f"A subscription may have at most {MAX_TOPICS} topics.")
    for part in parts:
        parse_topic(part.removesuffix("*") if part.endswith(".*") else part)
    return parts


def covers(part: str, topic: str) -> bool:
    """Whether a part of a selection names the topic, or is a prefix of it."""
    return topic == part or (part.endswith(".*") and topic.startswith(part[:-1]))


def parts_of(name: str) -> list[str]:
    """Return the parts that cover a topic: its name and its prefixes. A prefix covers itself."""
    if name.endswith(".*"):
        return [name]
    return [name, *(name[: dot.end()] + "*" for dot in _DOT.finditer(name))]


def policy_of(name: str, policies: dict[str, str]) -> str:
    """Return the policy of the first part that covers a topic or prefix."""
    return next((policy for part, policy in policies.items() if covers(part, name)), "disconnect")


def parse_policies(text: str) -> dict[str, str]:
    """Return the policy of each topic or prefix in `topic=policy,prefix.*=policy`."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    return {name.strip(): policy.strip() for name, _, policy in pairs}


def _invalid(detail: str) -> Problem:
    error = {"pointer": "/path/topics", "detail": detail, "code": "topic_invalid"}
    return Problem(422, detail, type=INVALID, errors=[error])
