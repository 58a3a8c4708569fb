"""Run a generated service in a process, with a real socket."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread, Timer
from typing import NamedTuple

from baking import Project
from environment import Environment

RUNNING = re.compile(r"running on http://127\.0\.0\.1:(\d+)")
#: The link to the demo page that the first start prints.
LINK = re.compile(r"http://127\.0\.0\.1:(\d+)/#key=(sk_\S+)")


class Running(NamedTuple):
    """A running service; `kill` its process to simulate a crash."""

    port: int
    #: The line that has the port.
    line: str
    process: "subprocess.Popen[str]"
    #: Lines of output since the service listens; complete when it has ended.
    log: list[str]


@contextmanager
def running(
    project: Project, environment: Environment, folder: Path, **settings: str
) -> Iterator[int]:
    """Run the service in a folder; yield its port. `settings` have no prefix."""
    with started(project, environment, folder, RUNNING, **settings) as service:
        yield service.port


@contextmanager
def started(
    project: Project,
    environment: Environment,
    folder: Path,
    until: re.Pattern[str] = RUNNING,
    **settings: str,
) -> Iterator[Running]:
    """Run the service as `running` does; yield the service when it has printed `until`."""
    chosen = {"SERVER__PORT": "0", **settings}
    with subprocess.Popen(
        [environment.python, "-m", project.package],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(project.path / "src"),
            **{f"APP_{name}": value for name, value in chosen.items()},
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        log = shown(process.stdout)
        watch = Timer(60, process.kill)  # It may run without printing that.
        watch.start()
        found = next(filter(None, map(until.search, log)), None)
        watch.cancel()
        # Read to the end, so that the service never blocks on a full pipe.
        kept: list[str] = []
        rest = Thread(target=kept.extend, args=[log])
        rest.start()
        try:
            assert found is not None, "the service did not start"
            yield Running(int(found[1]), found[0], process, kept)
        finally:
            process.terminate()
            rest.join()


def shown(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        sys.stdout.write(line)  # pytest shows it when the test fails
        yield line
