"""Publishes the events of runs, and waits for a broker that is unavailable."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pydantic_core

from ...kernel.problem import Problem
from ..hub import Hub
from ..messages import Message, Once
from ..ring import Ring
from ..topics import Position
from .log import END, EVENTS, has_ended

#: Seconds between two attempts.
RETRY_SECONDS = 1.0


class Superseded(Exception):
    """Another process has continued or ended the run."""


class Writer:
    """Publishes events, and repeats that until the broker is available."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def publish(self, topic: str, message: Message) -> str:
        """Publish an event, and return its id."""
        while True:
            with waiting_for_the_broker():
                return await self._hub.publish(topic, message)
            await asyncio.sleep(RETRY_SECONDS)

    async def extend(self, topic: str, message: Message, last: int) -> int:
        """Publish the event after `last`, and return its number.

        Raises Superseded if another process has published a newer one.
        """
        is_repeated = False
        while True:
            with waiting_for_the_broker():
                event_id = await self._hub.extend(topic, message, last)
                if event_id is None and is_repeated:  # Only the reply may have been lost.
                    event = (await self._hub.kept(topic)).first_after(last)
                    event_id = event.id if event and event.message == message else None
                if event_id is None:
                    raise Superseded
                return number_of(event_id)
            is_repeated = True
            await asyncio.sleep(RETRY_SECONDS)
            while not self._hub.backend.up:  # noqa: ASYNC110  # Until then, a ring may lack events.
                await asyncio.sleep(RETRY_SECONDS)

    async def end(self, run_id: str, status: str, problem: Problem | None = None) -> None:
        """Publish the last event of a run, unless it has one."""
        end: dict[str, Any] = {"status": status}
        if problem is not None:
            end["problem"] = problem.document()
        text = pydantic_core.to_json(end, fallback=str).decode()
        topic, message = EVENTS + run_id, Message(text, END, is_json=True)
        once = Once(topic, END, secrets.token_hex(8))
        while True:
            with waiting_for_the_broker():
                if await self._hub.claim(topic, message, once) is None:
                    # The key may be that of an earlier run with this id, which was evicted.
                    ring = await self._hub.kept(topic)
                    if ring and not has_ended(ring):
                        await self._hub.publish(topic, message)
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def kept(self, topic: str) -> Ring:
        """Return the events of a topic that are kept."""
        while True:
            with waiting_for_the_broker():
                return await self._hub.kept(topic)
            await asyncio.sleep(RETRY_SECONDS)


@contextmanager
def waiting_for_the_broker() -> Iterator[None]:
    """Suppress the failure of a broker that is unavailable."""
    try:
        yield
    except Problem as problem:
        if problem.status_code != 503:
            raise


def number_of(event_id: str) -> int:
    return Position.parse(event_id).sequence
