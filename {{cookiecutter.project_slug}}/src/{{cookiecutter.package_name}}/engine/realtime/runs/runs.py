"""Runs: jobs that continue when the client has left.

The events of a run are those of the topic `run:ID`, so that any process of a shared broker can
follow and stop it; no client can name such a topic. The last event is always `end`: if the process
of a run is gone, another process publishes it, or continues the run.
"""

import asyncio
import hashlib
import inspect
import logging
import re
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import pydantic_core

from ...kernel.kernel import BOUNDS
from ...kernel.problem import Problem, ProblemType
from ...streams.clock import expiry_time
from ..hub import Hub
from ..messages import Message, Once, message_of
from ..ring import Event, Ring
from ..subscription import Subscription
from .definition import Definition, definition_of, json_of
from .following import Followed, follow, result
from .log import (
    BEGIN,
    EVENTS,
    LOG,
    LOGGED,
    STOP,
    Keeper,
    Kept,
    all_events,
    beginning,
    digest,
    has_ended,
    messages_of,
    resumption,
)
from .others import ALIVE, LEFT, Others
from .writer import Superseded, Writer, number_of

TOO_MANY_RUNS = ProblemType(
    "too-many-runs",
    "Too many runs",
    "The number of runs is limited, for all clients together (503) and for each client (429), so"
    " this one was not started. Stop a run, or try again after the seconds in `Retry-After`.",
)
#: The topics of the runs of a key.
KEYED = "runs:"
#: The signal on a stop topic that another process continues the run.
MOVED = "moved"
#: Seconds after which a run that was continued can be lost again.
RESUME_SECONDS = 10.0
#: Seconds that runs have to end when the service ends.
CLOSE_SECONDS = 1.0
#: How often a run is continued at most.
MOST_RESUMED = 10
#: The newest runs of a key among which the active one is searched.
NEWEST = 3

#: Random digits, and those of the owner, if there is one.
_ID = re.compile(r"[0-9a-f]{32}([0-9a-f]{16})?", re.ASCII)

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Run(NamedTuple):
    """A run that was asked for, and whether it was started by that."""

    id: str
    is_new: bool


@dataclass
class _Start:
    """A run to be started; `log` is the first event of its log, if that is kept."""

    run_id: str
    client: str
    messages: AsyncGenerator[Any]
    definition: Definition | None = None
    log: Message | None = None
    keeper: Keeper | None = None
    #: The numbers of the newest events of the run and of its log.
    last: int = 0
    last_of_log: int = 0
    #: How often other processes have continued it.
    resumed: int = 0


class Runs:
    """Starts, follows and stops runs."""

    def __init__(
        self, hub: Hub, have_owners: bool, definitions: Mapping[str, Definition] | None = None
    ) -> None:
        self.hub = hub
        self._have_owners = have_owners
        #: The registered runs, by the id of the definition.
        self._definitions = dict(definitions or {})
        #: The runs of each client that are starting, active, or publishing their end.
        self._clients: Counter[str] = Counter()
        self._running: dict[str, asyncio.Task[None]] = {}
        #: The active runs, and those that are publishing their end.
        self._tasks: set[asyncio.Task[None]] = set()
        #: Starts and stops, which a client that leaves does not cancel.
        self._actions: set[asyncio.Task[Any]] = set()
        #: The active runs of this process that other processes can continue.
        self._resumable: set[str] = set()
        self._is_closing = False
        self._others = Others(hub)
        self._writer = Writer(hub)

    # ---- Start

    async def start(self, messages: AsyncGenerator[Any], client: str = "") -> str:
        """Publish the items of a generator, until its end, and return the id of this run.

        An item is text, a Message, or anything that pydantic serializes to JSON. Raises Problem 503
        if there are too many runs, or if the broker is unavailable; 429 if `client` has too many.
        An empty `client` has no limit of its own. With access control, a `client` is the id of a
        principal, and only that and `admin` can use the engine's routes of the run.
        """
        started = _Start(self._id(secrets.token_hex(16), client), client, messages)
        await self.unbroken(self._start(started, None, None))
        return started.run_id

    async def attach(
        self,
        function: Callable[..., AsyncGenerator[Any]],
        parameters: Mapping[str, Any] | bytes,
        client: str = "",
        *,
        once: str | None = None,
        key: str | None = None,
    ) -> Run:
        """Start a registered run, or return the one that has been started with the same `once`.

        `parameters` are those of the function, also as JSON. `key` names what the run is about,
        such as a conversation: see `active`. `once` and `key` are a principal's own. Raises what
        `start` raises, RequestValidationError (422) for wrong parameters, and Problem 422 if `once`
        was used with others.
        """
        definition = definition_of(function)
        body = parameters if isinstance(parameters, bytes) else json_of(parameters)
        messages, claim = definition.open(parameters), None
        digits = secrets.token_hex(16)
        if once is not None:
            digits = digest(self._owner(client), definition.id, once)[:32]
            canonical = pydantic_core.to_json(pydantic_core.from_json(body or b"{}"))
            claim = Once(f"{EVENTS}{digits} {BEGIN}", digest(canonical)[:32], secrets.token_hex(8))
        started = _Start(self._id(digits, client), client, messages, definition)
        if definition.keeps_log:
            started.log, started.keeper = beginning(definition, body), Keeper(self.hub, definition)
        return await self.unbroken(self._start(started, claim, key))

    async def active(self, client: str, key: str) -> str | None:
        """Return the id of the newest run of a client that is active and was started with `key`."""
        found = await self.find(client, key)
        return found[0] if found else None

    async def find(self, client: str, key: str) -> tuple[str, str] | None:
        """Return the id and the name of the active run; raises Problem 503."""
        newest = all_events(await self.hub.kept(self._topic_of(client, key)))[: -NEWEST - 1 : -1]
        for event in newest:
            run_id, name = pydantic_core.from_json(event.message.data)
            ring = await self.hub.kept(EVENTS + run_id)
            if self._knows(run_id, ring) and not has_ended(ring):
                return run_id, name
        return None

    async def unbroken(self, action: Coroutine[Any, Any, T]) -> T:
        """Run an action to its end, also if the client leaves meanwhile."""
        task = asyncio.create_task(action)
        self._actions.add(task)
        task.add_done_callback(self._acted)
        return await asyncio.shield(task)

    def _acted(self, task: asyncio.Task[Any]) -> None:
        self._actions.discard(task)
        if not task.cancelled():
            task.exception()  # Retrieved, as the client may have left.

    async def _start(self, run: _Start, claim: Once | None, key: str | None) -> Run:
        topic = EVENTS + run.run_id
        begin = Message(claim.fingerprint if claim else "", BEGIN, key=LOGGED if run.log else None)
        if claim is not None and (first := (await self.hub.kept(topic)).first()):
            # A broker can evict a key earlier than the events of a run.
            if first.message.event == BEGIN:
                claim.is_mine(first.message.data)
            else:  # Compare with the broker's key, which is stored again if it was evicted.
                await self.hub.claim(ALIVE, Message(""), claim)
            return Run(run.run_id, is_new=False)
        if run.run_id in self._running:  # The broker has lost the key and the events.
            return Run(run.run_id, is_new=False)
        self._check(run.client)
        self._clients[run.client] += 1
        try:
            stop = await self.hub.subscribe((STOP + run.run_id,))
            try:
                if claim is None:
                    begun: str | None = await self.hub.publish(topic, begin)
                else:
                    begun = await self.hub.claim(topic, begin, claim)
                if begun is None:
                    stop.close()
                    self._release(run.client)
                    return Run(run.run_id, is_new=False)
                run.last = number_of(begun)
            except BaseException:
                stop.close()
                raise
        except BaseException:
            self._release(run.client)
            raise
        self._launch(run, stop)
        if key is not None and run.definition is not None:
            data = pydantic_core.to_json([run.run_id, run.definition.name]).decode()
            topic = self._topic_of(run.client, key)
            await self._writer.publish(topic, Message(data, is_json=True))
        return Run(run.run_id, is_new=True)

    def _launch(self, run: _Start, stop: Subscription) -> None:
        if run.definition is not None and run.definition.resume is not None:
            self._resumable.add(run.run_id)
        task = self._running[run.run_id] = asyncio.create_task(self._run(run, stop))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._release(run.client))

        def cancel() -> None:
            if stop.lag:  # Otherwise it was woken because of a gap.
                _cancel(task)

        stop.wake = cancel
        cancel()

    def _check(self, client: str) -> None:
        settings, soon = self.hub.settings, {"Retry-After": "5"}
        if client and self._clients[client] >= settings.max_runs_per_client:
            BOUNDS["realtime.max_runs_per_client"] += 1
            raise Problem(429, "You have too many runs.", type=TOO_MANY_RUNS, headers=soon)
        if self._clients.total() >= settings.max_runs:
            BOUNDS["realtime.max_runs"] += 1
            raise Problem(503, "Too many runs.", type=TOO_MANY_RUNS, headers=soon)

    def _release(self, client: str) -> None:
        self._clients -= Counter((client,))  # Drops a count of 0.

    def _owner(self, client: str) -> str:
        return client if self._have_owners else ""

    def _id(self, digits: str, client: str) -> str:
        owner = self._owner(client)
        return owned(digits, owner) if owner else digits

    def _topic_of(self, client: str, key: str) -> str:
        return KEYED + digest(self._owner(client), key)[:32]

    # ---- Follow and stop

    async def follow(self, run_id: str, last_event_id: str | None = None) -> Followed | None:
        """Follow a run from the event after `last_event_id`, or from its beginning.

        Returns None if there is no such run, or no event of it after that one. Raises Problem 503.
        """
        if not _ID.fullmatch(run_id):
            return None
        followed = await follow(self.hub, self._definitions, run_id, last_event_id)
        subscription = followed.subscription
        has_read = has_ended(subscription.ring) and subscription.lag == 0 and not followed.past
        if has_read or not self._knows(run_id, subscription.ring):
            subscription.close()
            return None
        return followed

    async def result(self, run_id: str) -> tuple[list[Message], Event]:
        """Wait for the end of a run; return its messages, compacted if possible, and the end.

        Raises Problem 404 for an unknown run, 500 if events are missing, and 503.
        """
        followed = await self.follow(run_id)
        if followed is None:
            raise Problem(404, "There is no such run.")
        return await result(followed)

    def _knows(self, run_id: str, ring: Ring) -> bool:
        return bool(ring) or run_id in self._running or self._others.knows(run_id)

    def count(self) -> int:
        """Return the number of active runs of this process."""
        return len(self._tasks)

    async def stop(self, run_id: str) -> None:
        """Stop a run of any process; raises Problem 404 for an unknown one, and 503."""
        if not _ID.fullmatch(run_id):
            raise Problem(404, "There is no such run.")
        ring = await self.hub.kept(EVENTS + run_id)
        if not self._knows(run_id, ring):
            raise Problem(404, "There is no such run.")
        if not has_ended(ring):
            await self.hub.publish(STOP + run_id, Message(""))

    def stop_later(self, run_id: str) -> None:
        """Stop a run whose only client has left; without effect if that fails."""
        task = asyncio.ensure_future(self.stop(run_id))
        self._actions.add(task)
        task.add_done_callback(self._acted)

    # ---- Other processes

    async def tend(self) -> None:
        """Report the runs of this process; end or continue those of processes that are gone."""
        lost, followed = await self._others.listen(self._running)
        for run_id in lost:
            if await self._continue(run_id) or run_id not in followed:
                continue
            await self.hub.publish(STOP + run_id, Message(""))  # In case it is still alive.
            await self._writer.end(run_id, "interrupted")

    async def _continue(self, run_id: str) -> bool:
        """Continue a run of a process that is gone; False if it cannot be continued."""
        if not any(each.resume for each in self._definitions.values()):
            return False
        kept = Kept.of(await self.hub.kept(LOG + run_id))
        definition = self._definitions.get(kept.definition) if kept else None
        if kept is None or definition is None or definition.resume is None:
            return False
        if kept.resumed >= MOST_RESUMED:
            return False  # It may be what kills its processes.
        if expiry_time() - kept.resumed_at < RESUME_SECONDS:
            return True  # By another process.
        claimed = await self.hub.claim(LOG + run_id, *resumption(run_id, kept))
        if claimed is None:
            return True
        # The process of the run may only have been suspended.
        await self.hub.publish(STOP + run_id, Message(MOVED))
        ring = await self.hub.kept(EVENTS + run_id)
        stop = await self.hub.subscribe((STOP + run_id,))
        if any(not each.message.data for each in all_events(stop.ring)):
            stop.close()  # It was stopped while no process could hear that.
            await self._writer.end(run_id, "stopped")
            return True
        try:
            if has_ended(ring) or kept.last < ring.floor:
                raise LookupError("Events of the run are missing.")
            tail = [each for each in all_events(ring) if each.sequence > kept.last]
            messages = definition.merged(kept.messages() + messages_of(tail))
            again = _Start(run_id, "", definition.reopen(kept.body, messages), definition)
        except Exception:
            stop.close()
            if not has_ended(ring):
                logger.exception("Run %s cannot be continued", run_id)
            return False
        again.keeper = Keeper(self.hub, definition, tail)
        again.last, again.last_of_log = ring.last, number_of(claimed)
        again.resumed = kept.resumed + 1
        self._clients[""] += 1
        self._launch(again, stop)
        logger.warning("Run %s of another process is continued", run_id)
        return True

    async def close(self) -> None:
        """Leave runs to other processes that can continue them; interrupt all others, and wait."""
        self._is_closing = True
        if self.hub.settings.broker_url == "memory:":
            self._resumable.clear()
        elif self._resumable:
            with suppress(Problem):  # Otherwise they notice it later.
                await self.hub.publish(ALIVE, Message(" ".join(self._resumable), LEFT))
        for task in self._running.values():
            _cancel(task)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks | self._actions:
            task.cancel()  # The broker is unavailable, or the generator does not end.

    # ---- Run

    async def _run(self, run: _Start, stop: Subscription) -> None:
        status, problem = "complete", None
        loop, age, run_id = asyncio.get_running_loop(), self.hub.settings.max_run_age, run.run_id
        ends_at = loop.time() + age
        # A timeout would cancel the cleanup of a generator that was stopped before.
        timer = loop.call_at(ends_at, _cancel, self._running[run_id])
        try:
            await self._produce(run)
        except asyncio.CancelledError:
            signals = [event.message.data for event in stop.take()[1]]
            status = "stopped" if signals else "interrupted"
            if signals and {*signals} == {MOVED}:
                status = MOVED
            elif not signals and self._is_closing and run_id in self._resumable:
                status = LEFT
            elif not signals and loop.time() >= ends_at:
                BOUNDS["realtime.max_run_age"] += 1
                status = "failed"
                problem = Problem(504, f"A run is ended after {age:g} seconds.")
        except Superseded:
            status = MOVED
        except Exception as error:
            status, problem = "failed", Problem.of(error)
            if problem is not error:
                logger.exception("Run %s failed", run_id)
        finally:
            # From here on it cannot be cancelled.
            timer.cancel()
            stop.close()
            self._resumable.discard(run_id)
            del self._running[run_id]
        if status not in (MOVED, LEFT) and not await self._is_moved(run):
            await self._writer.end(run_id, status, problem)

    async def _is_moved(self, run: _Start) -> bool:
        """Whether another process has continued a run while this one was suspended."""
        if run.definition is None or run.definition.resume is None:
            return False
        kept = Kept.of(await self._writer.kept(LOG + run.run_id))
        return kept is not None and kept.resumed > run.resumed

    async def _produce(self, run: _Start) -> None:
        topic, log, keeper = EVENTS + run.run_id, LOG + run.run_id, run.keeper
        async with aclosing(run.messages):
            if run.log is not None:
                run.last_of_log = number_of(await self._writer.publish(log, run.log))
            async for item in run.messages:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError  # The generator has ignored it.
                message = message_of(item)
                run.last = await self._writer.extend(topic, message, run.last)
                if keeper is not None and (part := keeper.add(message, run.last)) is not None:
                    run.last_of_log = await self._writer.extend(log, part, run.last_of_log)
                await asyncio.sleep(0)  # Let other tasks run: the generator may never wait.


def owned(digits: str, owner: str) -> str:
    """Return the id of a run, which has the owner in it: the events can be evicted."""
    return digits + hashlib.sha256(f"{digits} {owner}".encode()).hexdigest()[:16]


def _cancel(task: "asyncio.Task[None]") -> None:
    """Cancel a task once: a second time would cancel the cleanup of the generator."""
    if inspect.getcoroutinestate(cast(Any, task.get_coro())) == inspect.CORO_CREATED:
        # A task that is cancelled before its first step would not publish the end.
        asyncio.get_running_loop().call_soon(_cancel, task)
    elif not task.cancelling():
        task.cancel()
