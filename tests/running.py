"""Run a generated service in a process, with a real socket."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer
from typing import NamedTuple

from baking import Project
from environment import Environment
from tools import program

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


def free_port() -> int:
    """Return a port on which nothing listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a Redis that keeps nothing, with a folder of its own; yield its port."""
    port = free_port()
    options = f"--port {port} --bind 127.0.0.1 --dir {folder} --save".split()
    command = [program("redis-server", "valkey-server"), *options, ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            assert any("Ready to accept connections" in line for line in process.stdout)
            yield port
        finally:
            process.terminate()


@contextmanager
def web_site(folder: Path) -> Iterator[str]:
    """Serve a folder on another origin than the service; yield its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
