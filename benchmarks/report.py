"""Common parts of the reports."""

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from statistics import median

from packaging.utils import canonicalize_name
from raw import cpu_model
from servers import Tools


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(tools: Tools, packages: Iterable[str], programs: Iterable[str]) -> str:
    """Return a description of the machine and the versions."""
    installed = tools.environment.installed
    software = [
        f"Python {platform.python_version()}",
        *(f"{name} {installed[canonicalize_name(name)].version}" for name in packages),
        *programs,
    ]
    hardware = f"{os.cpu_count()} cores of {cpu_model()}, Linux {platform.release()}"
    return f"{hardware}; {', '.join(software)}"


def spread(values: Iterable[float]) -> str:
    """Return half the range of the rounds, as a share of their median."""
    found = sorted(values)
    middle = median(found)
    return f"{(found[-1] - found[0]) / 2 / middle:.0%}" if middle else ""


def nginx_version() -> str:
    return f"nginx {output('nginx', '-v').rpartition('/')[2]}"


def output(*command: str) -> str:
    """Return the output of a program, independently of its exit code."""
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout or done.stderr).strip()
