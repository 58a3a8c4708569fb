"""Measure the cost of downloads from a server."""

import json
import sys
from dataclasses import dataclass, replace

import processes
import requests_load
from download_load import Plan
from download_servers import SMALL, SMALL_FILES, Download, Store, stored
from load import Load
from measure import GIB, MIB, MeasureError, Sample, Server, running, send
from servers import HERE, Tools

#: The minimum size of a row in bytes.
ROW = 64


@dataclass(frozen=True)
class Scenario:
    """The kind of load (`large`, `slow`, `small` or `rows`), and the number of clients."""

    kind: str
    count: int
    amount: float = 0
    """Seconds of slow clients and of small files, or the number of rows."""
    files: int = SMALL_FILES
    """How many small files there are."""

    def smoke(self) -> "Scenario":
        """Return a small version of this load."""
        return Scenario(self.kind, self.count, self.amount / 20, self.files // 20)

    @property
    def title(self) -> str:
        match self.kind:
            case "large":
                return "1 download" if self.count == 1 else f"{self.count} downloads at once"
            case "slow":
                return "1 slow client" if self.count == 1 else f"{self.count} slow clients"
            case "small":
                return f"{SMALL >> 10} KiB files, {self.count} connections"
            case _:
                return "rows as JSON Lines"


def measure(
    tools: Tools, variant: Download, scenario: Scenario, size: int, *, pings: bool = True
) -> Sample:
    """Measure one load on a new server; a large one downloads `size` bytes in total."""
    if scenario.kind == "rows":
        with running(tools, variant) as server:
            return _rows(server, variant, scenario)
    store = stored(tools, size // 8, scenario.files)
    store.warm()
    with running(tools, variant) as server:
        match scenario.kind:
            case "large":
                return _large(server, variant, scenario, store, pings)
            case "slow":
                return _slow(server, variant, scenario, store)
            case _:
                return _small(server, variant, scenario, store)


def _large(
    server: Server, variant: Download, scenario: Scenario, store: Store, pings: bool
) -> Sample:
    """Download eight times in total; repeat it for pings, which take CPU time, too."""
    warm_up(server, variant, store)
    file = store.large if variant.share == 1 else store.part
    size = file.path.stat().st_size
    path = store.address(variant, file)
    plan = Plan(server.port, path, scenario.count, size, 8 // scenario.count)
    idle = processes.forget_peak(server.pid)
    before = processes.cpu_seconds(server.pid)
    result, _ = download(server, plan)
    cpu = processes.cpu_seconds(server.pid) - before
    memory = processes.peak(server.pid) - idle
    answered = download(server, plan, ping=True)[1] if pings else ()
    gib = plan.downloads * plan.times * size / GIB
    return Sample(
        rate=gib * 1024 / result.seconds,
        cpu=cpu / gib,
        client_cpu=result.client_cpu / result.seconds,
        memory=max(0, memory) / MIB,
        pings=answered,
    )


def _slow(server: Server, variant: Download, scenario: Scenario, store: Store) -> Sample:
    """Read the large file slowly with many clients; memory is per client."""
    warm_up(server, variant, store)
    path = store.address(variant, store.large)
    plan = Plan(server.port, path, scenario.count, 0, slow=scenario.amount)
    idle = processes.forget_peak(server.pid)
    download(server, plan)
    memory = processes.peak(server.pid) - idle
    return Sample(memory=max(0, memory) / scenario.count / MIB)


def _small(server: Server, variant: Download, scenario: Scenario, store: Store) -> Sample:
    """Request small files over persistent connections; cpu is in microseconds per request."""
    warm_up(server, variant, store)
    paths = [store.address(variant, file) for file in store.small]
    return ask(server, paths, scenario.count, scenario.amount, least=SMALL)


def ask(
    server: Server, paths: list[str], connections: int, seconds: float, least: int = 0
) -> Sample:
    """Request small bodies of at least `least` bytes; cpu is in microseconds per request."""
    plan = requests_load.Plan(server.port, paths, connections, seconds)
    before = processes.cpu_seconds(server.pid)
    words = [sys.executable, str(HERE / "requests_load.py")]
    loaded = send(server, words, json.dumps(vars(plan)).encode())
    cpu = processes.cpu_seconds(server.pid) - before
    asked = requests_load.Asked(**json.loads(loaded.output))
    if asked.bytes < asked.requests * least:
        raise MeasureError(f"{asked.bytes} bytes of {asked.requests} small files")
    return Sample(
        rate=asked.requests / asked.seconds,
        cpu=cpu / asked.requests * 1e6,
        client_cpu=asked.client_cpu / asked.seconds,
    )


def _rows(server: Server, variant: Download, scenario: Scenario) -> Sample:
    """Export rows; cpu is in microseconds per row."""
    count = int(scenario.amount) // variant.share
    plan = Plan(server.port, f"{variant.path}?count={count}", 1, count * ROW)
    download(server, replace(plan, path=f"{variant.path}?count=1000", size=1000 * ROW))
    before = processes.cpu_seconds(server.pid)
    result, _ = download(server, plan)
    cpu = processes.cpu_seconds(server.pid) - before
    return Sample(
        rate=count / result.seconds,
        cpu=cpu / count * 1e6,
        client_cpu=result.client_cpu / result.seconds,
    )


def warm_up(server: Server, variant: Download, store: Store) -> None:
    download(server, Plan(server.port, store.address(variant, store.small[0]), 1, SMALL))


def download(server: Server, plan: Plan, *, ping: bool = False) -> tuple[Load, tuple[float, ...]]:
    words = [sys.executable, str(HERE / "download_load.py")]
    loaded = send(server, words, json.dumps(vars(plan)).encode(), ping=ping)
    return Load(**json.loads(loaded.output)), loaded.pings
