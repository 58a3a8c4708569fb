"""The runs of this process: what goes on when its client has left, and tells of it on a topic.

What a run sends are the events of the topic `run:ID`, so it is followed and resumed like any other,
in every process of a shared broker. Clients cannot name such a topic. Its last event is `end`,
always: when the process is gone that it ran in, another one publishes it.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pydantic_core

from ..kernel.problem import Problem, ProblemType
from ..kernel.threads import repeating
from .backends import Once
from .messages import Message, message_of
from .ring import Ring
from .subscription import Subscription

if TYPE_CHECKING:
    from .hub import Hub

TOO_MANY = ProblemType(
    "too-many-runs",
    "Too many runs",
    "As many runs are under way as may be, and this one was not started. Come back after the"
    " seconds that `Retry-After` says.",
)
#: Topics: what a run tells, what tells it to stop, and which runs are alive.
EVENTS, STOP, ALIVE = "run:", "stop:", "runs:alive"
#: The types of the first event of a run, which nobody is sent, and of the last.
BEGIN, END = "(begin)", "end"
#: Seconds after which a process tells others of its runs again, and how many times in a row
#: nothing is heard of a run before it counts as lost.
ALIVE_SECONDS, LOST_AFTER = 5.0, 4
#: Seconds after which what could not be published is tried again.
RETRY_SECONDS = 1.0
#: Seconds that runs have for their last words when the service ends.
CLOSE_SECONDS = 1.0

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_runs(hub: "Hub") -> AsyncGenerator["Runs"]:
    """Have runs, for the lifespan; those that are left at its end are interrupted."""
    runs = Runs(hub)
    shared = hub.settings.broker_url != "memory:"
    async with repeating(ALIVE_SECONDS, runs.tend) if shared else nullcontext():
        try:
            yield runs
        finally:
            await runs.close()


class Runs:
    """Starts, follows and stops runs."""

    def __init__(self, hub: "Hub") -> None:
        self.hub = hub
        self._starting = 0
        self._running: dict[str, asyncio.Task[None]] = {}
        #: Those, and the ones that have come to their last words.
        self._tasks: set[asyncio.Task[None]] = set()
        #: Runs of any process, and for how many rounds nothing was heard of them.
        self._silent: dict[str, int] = {}
        self._heard: set[str] = set()
        self._alive: Subscription | None = None

    async def start(self, messages: AsyncGenerator[Any]) -> str:
        """Publish what a generator yields, until its end, and return the id of this run.

        It yields text, a Message, or anything else that pydantic makes JSON of. Raises Problem 503
        when there are too many, or when the broker does not answer.
        """
        if len(self._tasks) + self._starting >= self.hub.settings.max_runs:
            raise Problem(503, "Too many runs.", type=TOO_MANY, headers={"Retry-After": "5"})
        run_id = secrets.token_hex(16)
        self._starting += 1
        try:
            await self.hub.publish(EVENTS + run_id, Message("", BEGIN))
            stop = await self.hub.subscribe((STOP + run_id,))
        finally:
            self._starting -= 1
        task = self._running[run_id] = asyncio.create_task(self._run(run_id, messages, stop))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def hear() -> None:
            if stop.lag:  # It is woken because of a gap, too.
                _cancel(task)

        stop.wake = hear
        return run_id

    async def follow(self, run_id: str, last_event_id: str | None = None) -> Subscription | None:
        """Follow a run from behind an event, or from its beginning.

        None when there is no such run, or nothing of it behind that event. Raises Problem 503.
        """
        if not _ID.fullmatch(run_id):
            return None
        subscription = await self.hub.subscribe((EVENTS + run_id,), last_event_id)
        ring = subscription.ring
        kept = ring.history().events
        if subscription.event_id != last_event_id:
            subscription.position = ring.floor
        if kept and kept[0].message.event == BEGIN:
            subscription.position = max(subscription.position, kept[0].sequence)
        elif last_event_id is None:
            tell_gap(subscription)
        known = kept or run_id in self._running or run_id in self._silent
        if not known or (has_ended(ring) and subscription.position >= ring.last):
            subscription.close()
            return None
        return subscription

    def count(self) -> int:
        """Return how many runs of this process are under way."""
        return len(self._tasks)

    async def stop(self, run_id: str) -> None:
        """Tell a run to stop, wherever it is; raises Problem 404 for an unknown one, and 503."""
        subscription = await self.follow(run_id)
        if subscription is None:
            raise Problem(404, "There is no such run.")
        subscription.close()
        if not has_ended(subscription.ring):
            await self.hub.publish(STOP + run_id, Message(""))

    async def tend(self) -> None:
        """Tell other processes of the runs here; end those followed here whose process is gone."""
        if not self.hub.backend.up:  # Nothing can be heard, so nothing follows from silence.
            self._silent = dict.fromkeys(self._silent, 0)
            return
        # Who has no runs, but counts how long others are silent, must know that one can be heard.
        if self._running or self._silent:
            await self.hub.publish(ALIVE, Message(" ".join(self._running)))
        if self._alive is None:
            alive = self._alive = await self.hub.subscribe((ALIVE,))
            alive.wake = lambda: self._hear(alive)
        heard, self._heard = self._heard.union(self._running), set()
        followed = {
            subscription.names[0].removeprefix(EVENTS)
            for subscription in self.hub.subscriptions()
            if subscription.names[0].startswith(EVENTS) and not has_ended(subscription.ring)
        }
        # Counted in rounds: a process that was itself suspended has heard nobody meanwhile.
        silent = {run_id: self._silent.get(run_id, 0) + 1 for run_id in followed | {*self._silent}}
        lost = {run_id for run_id, rounds in silent.items() if rounds > LOST_AFTER} - heard
        self._silent = {run_id: silent[run_id] for run_id in silent.keys() - lost}
        self._silent |= dict.fromkeys(heard, 0)
        for run_id in lost & followed:
            await self.hub.publish(STOP + run_id, Message(""))  # Should it be alive after all.
            await self._end(run_id, "interrupted")

    def _hear(self, alive: Subscription) -> None:
        for event in alive.take()[1]:
            self._heard.update(event.message.data.split())

    async def close(self) -> None:
        """Interrupt what runs, and wait until it has ended."""
        for task in self._running.values():
            _cancel(task)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()  # The broker is away, or the generator goes on.

    async def _run(self, run_id: str, messages: AsyncGenerator[Any], stop: Subscription) -> None:
        status, problem = "complete", None
        try:
            async with aclosing(messages):
                async for message in messages:
                    await self._publish(EVENTS + run_id, message_of(message))
                    await asyncio.sleep(0)  # Neither that nor the generator has to wait.
        except asyncio.CancelledError:
            status = "stopped" if stop.lag else "interrupted"
        except Exception as error:
            status, problem = "failed", Problem.of(error)
            if problem is not error:
                logger.exception("Run %s failed", run_id)
        finally:
            # From here on it is not to be cancelled.
            stop.close()
            del self._running[run_id]
        await self._end(run_id, status, problem)

    async def _end(self, run_id: str, status: str, problem: Problem | None = None) -> None:
        end: dict[str, Any] = {"status": status}
        if problem is not None:
            end["problem"] = problem.document()
        text = pydantic_core.to_json(end, fallback=str).decode()
        once = Once(EVENTS + run_id, END)
        await self._publish(EVENTS + run_id, Message(text, END, is_json=True), once)

    async def _publish(self, topic: str, message: Message, once: Once | None = None) -> None:
        """Publish, as soon as the broker answers."""
        while True:
            try:
                await self.hub.publish(topic, message, once)
            except Problem as problem:
                if problem.status_code != 503:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return


def has_ended(ring: Ring) -> bool:
    """Whether the newest event of a run's topic is its last."""
    newest = ring.after(max(ring.floor, ring.last - 1))
    return bool(newest) and newest[-1].message.event == END


def tell_gap(subscription: Subscription) -> None:
    """Tell a follower that events are gone, and go on with all that is left: it has the end."""
    subscription.tell_gap("evicted")
    subscription.position = subscription.ring.floor


def _cancel(task: "asyncio.Task[None]") -> None:
    """Cancel once: what the generator does to clean up is not to be cancelled too."""
    if not task.cancelling():
        task.cancel()
