"""Measure the cost of sending events to many subscribers."""

import json
import math
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from measure import Sample, running, send
from realtime_load import FanOut, Plan
from realtime_servers import Realtime, running_redis, start_ours
from servers import HERE, Tools

#: Bytes of one event.
SIZE = 200
#: Maximum seconds of a load, including its connections.
TIME_LIMIT = 60


@dataclass(frozen=True)
class Scenario:
    """The number of subscribers, and of events."""

    subscribers: int
    events: int

    @property
    def title(self) -> str:
        return f"{self.subscribers:,} subscribers"

    @property
    def deliveries(self) -> int:
        return self.subscribers * self.events


@dataclass(frozen=True)
class Delivery(Sample):
    """A sample whose CPU time is per delivery, and whose memory is KiB per connection."""

    delivered: int = 0
    missing: int = 0
    """Deliveries on open streams that were too late."""
    cut: int = 0
    """Subscribers that were left by their server."""
    refused: int = 0
    """Subscribers that were told to come back later."""
    client: float = 0.0
    """CPU microseconds of the client; near `cpu`, it is the client that was measured."""
    redis: float = 0.0
    """CPU microseconds of Redis."""
    p50: float = 0.0
    """Milliseconds from publishing to receiving."""
    p99: float = 0.0


def measure(tools: Tools, variant: Realtime, scenario: Scenario) -> Delivery:
    """Measure one load on new servers."""
    with ExitStack() as stack:
        redis = None
        if variant.redis:
            redis, address = stack.enter_context(running_redis())
            variant = replace(variant, start=partial(start_ours, broker=address))
        servers = [
            stack.enter_context(running(beside(tools, number), variant))
            for number in range(variant.servers)
        ]
        plan = Plan(
            ports=[server.port for server in servers],
            pids=[server.pid for server in servers],
            subscribe=variant.subscribe,
            publish=variant.publish,
            subscribers=scenario.subscribers,
            events=scenario.events,
            size=SIZE,
            seconds=TIME_LIMIT,
            redis=redis,
        )
        words = [sys.executable, str(HERE / "realtime_load.py")]
        loaded = send(servers[0], words, json.dumps(vars(plan)).encode())
    return _sample(FanOut(**json.loads(loaded.output)))


def beside(tools: Tools, number: int) -> Tools:
    """Return a separate directory for every server except the first."""
    if number == 0:
        return tools
    directory = tools.directory / f"server-{number}"
    directory.mkdir(exist_ok=True)
    return Tools(directory, tools.kept, tools.project, tools.environment)


def _sample(result: FanOut) -> Delivery:
    each = 1e6 / result.delivered if result.delivered else math.nan
    return Delivery(
        rate=result.delivered / result.seconds,
        cpu=result.cpu * each,
        client_cpu=result.client_cpu / result.seconds if result.delivered else math.nan,
        memory=result.memory / 1024,
        delivered=result.delivered,
        missing=result.missing,
        cut=result.cut,
        refused=result.refused,
        client=result.client_cpu * each,
        redis=result.redis_cpu * each,
        p50=result.p50 * 1000,
        p99=result.p99 * 1000,
    )
