"""The runs of other processes: those of a process that is gone are lost."""

from collections.abc import Collection

from ..hub import Hub
from ..messages import Message
from ..subscription import Subscription
from .log import EVENTS, has_ended

#: The topic of the runs that are alive, and the type of its events about runs that a process leaves
#: to others.
ALIVE, LEFT = "runs:alive", "left"
#: Seconds between two reports of a process about its runs, and the number of missing reports
#: after which a run is lost.
ALIVE_SECONDS, LOST_AFTER = 5.0, 4


class Others:
    """Reports the runs of this process, and counts the missing reports about those of others."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        #: Known runs of all processes, with the number of successive reports without each.
        self._silent: dict[str, int] = {}
        self._heard: set[str] = set()
        self._alive: Subscription | None = None

    def knows(self, run_id: str) -> bool:
        """Whether a run was active until recently."""
        return run_id in self._silent

    async def listen(self, running: Collection[str]) -> tuple[set[str], set[str]]:
        """Report the runs of this process; return the lost runs of others, and those followed."""
        backend = self._hub.backend
        # Otherwise no report can arrive, so a missing one means nothing.
        if not (backend.up and backend.publishes):
            self._silent = dict.fromkeys(self._silent, 0)
            return set(), set()
        # A process without runs also publishes while it counts missing reports, so that it knows
        # whether reports arrive.
        if running or self._silent:
            await self._hub.publish(ALIVE, Message(" ".join(running)))
        if self._alive is None:
            alive = self._alive = await self._hub.subscribe((ALIVE,))
            alive.wake = lambda: self._hear(alive)
        heard, self._heard = self._heard.union(running), set()
        followed = {
            subscription.names[0].removeprefix(EVENTS)
            for subscription in self._hub.subscriptions()
            if subscription.names[0].startswith(EVENTS) and not has_ended(subscription.ring)
        }
        # Reports are counted, not seconds: a process that was suspended has received none.
        silent = {run_id: self._silent.get(run_id, 0) + 1 for run_id in followed | {*self._silent}}
        lost = {run_id for run_id, rounds in silent.items() if rounds > LOST_AFTER} - heard
        self._silent = {run_id: silent[run_id] for run_id in silent.keys() - lost}
        self._silent |= dict.fromkeys(heard, 0)
        return lost, followed

    def _hear(self, alive: Subscription) -> None:
        for event in alive.take()[1]:
            runs = event.message.data.split()
            if event.message.event == LEFT:
                self._heard.difference_update(runs)
                self._silent |= dict.fromkeys(runs, LOST_AFTER)
            else:
                self._heard.update(runs)
