"""Follow a run: from an event, or from its beginning, which comes from its log if that is kept."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...kernel.problem import Problem
from ..hub import Hub
from ..messages import Message
from ..ring import Event
from ..subscription import Reset, Subscription
from ..topics import Position
from .definition import Definition
from .log import BEGIN, END, EVENTS, LOG, LOGGED, PARTIAL, Kept, all_events, compacted, messages_of

MISSING = "Events of the run are missing."


@dataclass
class Followed:
    """A follower of a run: it gets the `reset` and the `past`, then the subscription's events."""

    subscription: Subscription
    #: The whole log up to the position of the subscription.
    past: list[Event] = field(default_factory=list)
    #: Set if the client has a part of the log that it must discard.
    reset: Reset | None = None
    #: Whether the log can be read again if the follower is too slow.
    is_kept: bool = False


async def follow(
    hub: Hub, definitions: Mapping[str, Definition], run_id: str, last_event_id: str | None
) -> Followed:
    """Follow a run after an event, or from its beginning; raises Problem 503."""
    subscription = await hub.subscribe((EVENTS + run_id,), last_event_id)
    try:
        ring, is_known = subscription.ring, subscription.event_id == last_event_id
        keeps_logs = any(each.keeps_log for each in definitions.values())
        if keeps_logs and not (is_known and subscription.position >= ring.floor):
            kept = Kept.of(await hub.kept(LOG + run_id))
            definition = definitions.get(kept.definition) if kept else None
            if kept and definition and kept.last >= ring.floor:
                return _whole(subscription, definition, kept, last_event_id)
    except BaseException:
        subscription.close()
        raise
    first = ring.first()
    if not is_known:
        subscription.position = ring.floor
    if first is not None and first.message.event == BEGIN:
        subscription.position = max(subscription.position, first.sequence)
        keeps_logs = first.message.key == LOGGED
    elif last_event_id is None or subscription.position < ring.floor:
        report_gap(subscription)
    return Followed(subscription, is_kept=keeps_logs)


def _whole(
    subscription: Subscription, definition: Definition, kept: Kept, last_event_id: str | None
) -> Followed:
    """Return the whole log, and move the position to the end of it."""
    ring = subscription.ring
    tail = [each for each in all_events(ring) if each.sequence > kept.last]
    if definition.compact is None:  # The subscription returns these events, each with its id.
        read = [each for each in tail if each.message.event == BEGIN]
    else:
        read = [each for each in tail if each.message.event != END]
    followed = Followed(subscription, is_kept=True)
    reason = subscription.take_gap()
    if last_event_id is not None:
        # The client gets all of it, also if it is cut off before the end of that.
        name = subscription.names[0]
        followed.reset = Reset(name, reason or "evicted", f"{PARTIAL}-0")
    subscription.position = max(kept.last, read[-1].sequence if read else ring.floor)
    last = Position.parse(subscription.event_id)
    followed.past = compacted(definition, kept.messages() + messages_of(read), last)
    return followed


async def result(followed: Followed) -> tuple[list[Message], Event]:
    """Wait for the end; return all messages and the end, and close the subscription.

    Raises Problem 500 if events are missing.
    """
    subscription, woken = followed.subscription, asyncio.Event()
    subscription.wake = woken.set
    messages = messages_of(followed.past)
    try:
        while True:
            woken.clear()
            if subscription.position < subscription.ring.floor:
                raise Problem(500, MISSING)
            reset, events = subscription.take()
            if reset is not None:
                raise Problem(500, MISSING)
            messages += messages_of(events)
            if events and events[-1].message.event == END:
                return messages, events[-1]
            if not events:
                await woken.wait()
    finally:
        subscription.close()


def report_gap(subscription: Subscription) -> None:
    """Report that events are gone, and continue with all that are left, which include the end."""
    subscription.report_gap("evicted")
    subscription.position = subscription.ring.floor
