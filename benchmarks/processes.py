"""CPU time, memory and cores of a server and its children, from /proc."""

import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

#: The index of the parent in /proc/PID/stat, after the name.
_PARENT = 1

SERVER_CORE = {min(os.sched_getaffinity(0))}
#: The load uses the other cores, if any.
CLIENT_CORES = os.sched_getaffinity(0) - SERVER_CORE or SERVER_CORE


@contextmanager
def cores(chosen: set[int]) -> Generator[None]:
    """Run on these cores, including child processes."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found = [pid]
    for member in found:
        yield member
        found += [p for p, stat in parents.items() if stat and int(stat[_PARENT]) == member]


def cpu_seconds(pid: int) -> float:
    """Return the user and system CPU seconds of a process and its descendants.

    The id of a process's CPU clock is computed from its pid (see clock_getcpuclockid);
    /proc/PID/stat has a resolution of 10 ms.
    """
    return sum(time.clock_gettime(~member << 3 | 2) for member in family(pid))


def forget_peak(pid: int) -> int:
    """Return the memory of a process and its descendants in bytes, and reset the peaks."""
    for member in family(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")
    return _memory(pid, "VmRSS")


def peak(pid: int) -> int:
    """Return the peak memory since the last reset in bytes."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, field: str) -> int:
    statuses = (Path(f"/proc/{member}/status").read_text() for member in family(pid))
    lines = (line.split() for status in statuses for line in status.splitlines())
    return sum(int(line[1]) << 10 for line in lines if line[0] == f"{field}:")


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
