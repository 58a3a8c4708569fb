"""Measure the cost of uploads to a server."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import processes
from load import Load
from measure import GIB, MIB, MeasureError, Sample, Server, running, send
from servers import HERE, Tools
from upload_load import Plan
from upload_servers import Upload

WARM_UP = 64 << 10

Pings = Literal["apart", "together", "none"]


@dataclass(frozen=True)
class Scenario:
    """The number of uploads at once, and the size of network chunks."""

    uploads: int
    chunk: int

    @property
    def title(self) -> str:
        count = "1 upload" if self.uploads == 1 else f"{self.uploads} uploads at once"
        chunks = f"{self.chunk >> 10} KiB network chunks" if self.chunk else "large network chunks"
        return f"{count}, {chunks}"

    @property
    def short(self) -> str:
        return f"{self.uploads} x {f'{self.chunk >> 10} KiB' if self.chunk else 'large'}"


@dataclass(frozen=True)
class Big(Scenario):
    """An upload of its own size in MiB, for its memory."""

    size: int

    @property
    def title(self) -> str:
        size = f"{self.size >> 10} GiB" if self.size >= 1 << 10 else f"{self.size} MiB"
        return f"1 upload of {size}"


def measure(
    tools: Tools, variant: Upload, scenario: Scenario, size: int, pings: Pings = "apart"
) -> Sample:
    """Measure one load on a new server.

    Pings take CPU time as well, so they are sent during a second run of the load, or during the
    only run if the load is too large.
    """
    together = pings == "together"
    with running(tools, variant) as server:
        upload(server, _plan(server, variant, Scenario(1, 0), WARM_UP))
        plan = _plan(server, variant, scenario, size, 0 if together else variant.copies * size)
        idle = processes.forget_peak(server.pid)
        before = processes.cpu_seconds(server.pid)
        result, answered = upload(server, plan, ping=together)
        cpu = processes.cpu_seconds(server.pid) - before
        memory = processes.peak(server.pid) - idle
        if variant.copies and stored(server.files) < plan.uploads * plan.size:
            raise MeasureError(f"{variant.label} has not stored the sent bytes")
        if pings == "apart":
            _, answered = upload(server, plan, ping=True)
    gib = plan.uploads * plan.size / GIB
    return Sample(
        rate=gib * 1024 / result.seconds,
        cpu=cpu / gib,
        client_cpu=result.client_cpu / result.seconds,
        memory=max(0, memory) / MIB,
        pings=answered,
    )


def _plan(server: Server, variant: Upload, scenario: Scenario, size: int, memory: int = 0) -> Plan:
    return Plan(
        server.port,
        variant.request,
        variant.path,
        scenario.uploads,
        size // scenario.uploads,
        scenario.chunk,
        memory,
        min(processes.SERVER_CORE),
    )


def upload(server: Server, plan: Plan, *, ping: bool = False) -> tuple[Load, tuple[float, ...]]:
    words = [sys.executable, str(HERE / "upload_load.py")]
    loaded = send(server, words, json.dumps(vars(plan)).encode(), ping=ping)
    return Load(**json.loads(loaded.output)), loaded.pings


def stored(directory: Path) -> int:
    """Return the total size of all files in a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
