"""Common parts of the reports."""

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name
from servers import Tools


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(tools: Tools, packages: Iterable[str], programs: Iterable[str]) -> str:
    """Return a description of the machine and the versions."""
    installed = tools.environment.installed
    model = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    software = [
        f"Python {platform.python_version()}",
        *(f"{name} {installed[canonicalize_name(name)].version}" for name in packages),
        *programs,
    ]
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}; " + ", ".join(software)


def nginx_version() -> str:
    return f"nginx {output('nginx', '-v').rpartition('/')[2]}"


def output(*command: str) -> str:
    """Return the output of a program, independently of its exit code."""
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout or done.stderr).strip()
