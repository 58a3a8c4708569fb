"""Start a server, send a load to it, and say what that cost."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import load
import processes
from servers import HERE, Tools, Variant

MIB, GIB = 1 << 20, 1 << 30
START_TIME = 30
PING_EVERY = 0.005
WARM_UP = 64 << 10


class MeasureError(Exception):
    """A server did not do what it should have."""


@dataclass(frozen=True)
class Scenario:
    """How many uploads at once, and how the network delivers them."""

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
class Sample:
    """What one load cost."""

    rate: float
    """MiB/s."""
    cpu: float
    """CPU seconds of the server per GiB."""
    client_cpu: float
    memory: float
    """MiB that the server had at most, over what it had before."""
    pings: tuple[float, ...]
    """Seconds that each ping took."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    variant: Variant
    pid: int
    port: int
    files: Path

    def plan(self, scenario: Scenario, size: int, memory: int = 0) -> load.Plan:
        variant = self.variant
        each = size // scenario.uploads
        return load.Plan(
            self.port,
            variant.request,
            variant.path,
            scenario.uploads,
            each,
            scenario.chunk,
            memory,
            min(processes.SERVER_CORE),
        )


def measure(
    tools: Tools,
    variant: Variant,
    scenario: Scenario,
    size: int,
    *,
    together: bool = False,
) -> Sample:
    """Measure one load on a fresh server.

    Pings cost a server CPU seconds too, so they come with the same load a second time; or
    `together`, when the load is too large for that.
    """
    with running(tools, variant) as server:
        load.run(server.plan(Scenario(1, 0), WARM_UP))
        plan = server.plan(scenario, size, 0 if together else variant.copies * size)
        idle = processes.forget_peak(server.pid)
        before = processes.cpu_seconds(server.pid)
        result, pings = send(server, plan, ping=together)
        cpu = processes.cpu_seconds(server.pid) - before
        memory = processes.peak(server.pid) - idle
        if variant.copies and stored(server.files) < plan.uploads * plan.size:
            raise MeasureError(f"{variant.label} has not stored what was sent")
        if not together:
            _, pings = send(server, plan, ping=True)
    gib = plan.uploads * plan.size / GIB
    return Sample(
        rate=gib * 1024 / result.seconds,
        cpu=cpu / gib,
        client_cpu=result.client_cpu / result.seconds,
        memory=max(0, memory) / MIB,
        pings=tuple(pings),
    )


@contextmanager
def running(tools: Tools, variant: Variant) -> Generator[Server]:
    """Start a server with an empty directory, and stop it."""
    files = tools.directory / "files"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    port = free_port()
    command = variant.start(tools, files, port)
    log = (tools.directory / "server.log").open("wb")
    with log, processes.cores(processes.SERVER_CORE):
        process = subprocess.Popen(
            command.words, cwd=command.cwd, env={**os.environ, **command.env},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(process, port, variant)
        yield Server(variant, process.pid, port, files)
    except (OSError, MeasureError) as error:
        output = (tools.directory / "server.log").read_text(errors="replace")[-2000:]
        raise MeasureError(f"{variant.label}: {error}\n{output}") from error
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(files)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((load.HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for(process: subprocess.Popen[bytes], port: int, variant: Variant) -> None:
    """Wait until a server answers."""
    until = time.monotonic() + START_TIME
    while True:
        try:
            connection = http.client.HTTPConnection(load.HOST, port, timeout=5)
            ping(connection, variant.ping)
            connection.close()
        except ConnectionError:
            if time.monotonic() > until or process.poll() is not None:
                raise
            time.sleep(0.02)
        else:
            return


def ping(connection: http.client.HTTPConnection, path: str) -> float:
    """Return the seconds that one small request takes."""
    started = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise MeasureError(f"a ping was answered with {answer.status}")
    return time.perf_counter() - started


def send(server: Server, plan: load.Plan, *, ping: bool) -> tuple[load.Load, list[float]]:
    """Send a load from another process, and ping meanwhile if asked to."""
    with processes.cores(processes.CLIENT_CORES):
        client = subprocess.Popen(
            [sys.executable, str(HERE / "load.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with client:
            try:
                if client.stdin:
                    client.stdin.write(json.dumps(vars(plan)).encode())
                    client.stdin.close()
                pings = list(ping_during(client, server)) if ping else []
                output = client.stdout.read() if client.stdout else b""
            except BaseException:
                client.kill()
                raise
    if client.returncode:
        raise MeasureError(f"the load ended with {client.returncode}")
    return load.Load(**json.loads(output)), pings


def ping_during(client: subprocess.Popen[bytes], server: Server) -> Generator[float]:
    connection = http.client.HTTPConnection(load.HOST, server.port, timeout=30)
    while client.poll() is None:
        yield ping(connection, server.variant.ping)
        time.sleep(PING_EVERY)
    connection.close()


def stored(directory: Path) -> int:
    """Return the bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
