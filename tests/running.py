"""A generated service as a process of its own, behind a real socket."""

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from baking import Project
from environment import Environment

RUNNING = re.compile(r"running on http://127\.0\.0\.1:(\d+)")


@contextmanager
def running(
    project: Project, environment: Environment, folder: Path, **settings: str
) -> Iterator[int]:
    """Run the service in a folder, with settings without their prefix; yield its port."""
    chosen = {"SERVER__PORT": "0", **settings}
    with subprocess.Popen(
        [environment.python, "-m", project.package],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(project.path / "src"),
            **{f"APP_{name}": value for name, value in chosen.items()},
        },
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        log = shown(process.stderr)
        port = next((found[1] for line in log if (found := RUNNING.search(line))), None)
        # To the end, so that the service never waits for a full pipe.
        rest = Thread(target=deque, args=[log, 0])
        rest.start()
        try:
            assert port is not None, "the service did not start"
            yield int(port)
        finally:
            process.terminate()
            rest.join()


def shown(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        sys.stdout.write(line)  # pytest shows it when the test fails
        yield line
