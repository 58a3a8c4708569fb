"""Download from a server, and say what that cost."""

import json
import shutil
import sys
from dataclasses import dataclass, replace

import processes
from download_load import Plan
from download_servers import SMALL, Download, Store, stored
from load import HOST, Load
from measure import GIB, MIB, MeasureError, Sample, Server, running, send
from servers import HERE, Tools

ROWS = 1_000_000
#: What a row has at the least, in bytes.
ROW = 64
SLOW_SECONDS = 3
SMALL_SECONDS = 5
WRK = shutil.which("wrk")


@dataclass(frozen=True)
class Scenario:
    """What is asked for (`large`, `slow`, `small` or `rows`), and by how many clients at once."""

    kind: str
    count: int

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


def measure(tools: Tools, variant: Download, scenario: Scenario, size: int) -> Sample:
    """Measure one load on a fresh server; a large one downloads `size` bytes in all."""
    store = stored(tools, size // 8)
    store.warm()
    with running(tools, variant) as server:
        match scenario.kind:
            case "large":
                return _large(server, variant, scenario, store)
            case "slow":
                return _slow(server, variant, scenario, store)
            case "small":
                return _small(server, variant, scenario, store)
            case _:
                return _rows(server, variant)


def _large(server: Server, variant: Download, scenario: Scenario, store: Store) -> Sample:
    """Download eight times in all; with pings once more, since pings cost CPU seconds too."""
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
    _, pings = download(server, plan, ping=True)
    gib = plan.downloads * plan.times * size / GIB
    return Sample(
        rate=gib * 1024 / result.seconds,
        cpu=cpu / gib,
        client_cpu=result.client_cpu / result.seconds,
        memory=max(0, memory) / MIB,
        pings=pings,
    )


def _slow(server: Server, variant: Download, scenario: Scenario, store: Store) -> Sample:
    """Let clients take hardly anything of the large file; the memory is that of one of them."""
    warm_up(server, variant, store)
    path = store.address(variant, store.large)
    plan = Plan(server.port, path, scenario.count, 0, slow=SLOW_SECONDS)
    idle = processes.forget_peak(server.pid)
    download(server, plan)
    memory = processes.peak(server.pid) - idle
    return Sample(memory=max(0, memory) / scenario.count / MIB)


def _small(server: Server, variant: Download, scenario: Scenario, store: Store) -> Sample:
    """Ask for small files over connections that stay open; cpu is in microseconds per request."""
    warm_up(server, variant, store)
    threads = len(processes.CLIENT_CORES)
    words = [
        "wrk", f"--threads={threads}", f"--connections={scenario.count}",
        f"--duration={SMALL_SECONDS}s", f"--script={HERE / 'small.lua'}",
        f"http://{HOST}:{server.port}", "--", *(store.address(variant, f) for f in store.small),
    ]  # fmt: skip
    before = processes.cpu_seconds(server.pid)
    loaded = send(server, words)
    cpu = processes.cpu_seconds(server.pid) - before
    done = json.loads(loaded.output.splitlines()[-1])
    if done["failures"] or done["bytes"] < done["requests"] * SMALL:
        raise MeasureError(f"small files: {done}")
    return Sample(
        rate=done["requests"] / done["seconds"],
        cpu=cpu / done["requests"] * 1e6,
        client_cpu=loaded.cpu / done["seconds"],
    )


def _rows(server: Server, variant: Download) -> Sample:
    """Export rows; cpu is in microseconds per row."""
    count = ROWS // variant.share
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
