"""Start a server, load it from another process, and measure the cost."""

import http.client
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import processes
from load import HOST
from servers import Tools, Variant

MIB, GIB = 1 << 20, 1 << 30
START_TIME = 30
PING_EVERY = 0.005


class MeasureError(Exception):
    """A server did not respond as expected."""


@dataclass(frozen=True)
class Sample:
    """The cost of one load."""

    rate: float = 0.0
    """MiB/s, or whatever else was counted per second."""
    cpu: float = 0.0
    """CPU seconds of the server per GiB, or microseconds per whatever else was counted."""
    client_cpu: float = 0.0
    memory: float = 0.0
    """MiB that the server had at most, over what it had before."""
    pings: tuple[float, ...] = ()
    """Seconds that each ping took."""


@dataclass(frozen=True)
class Summary:
    """The medians of all rounds, and all of their pings."""

    rate: float
    cpu: float
    client: float
    memory: float
    ping: float
    """The 99th percentile, in ms."""
    spread: float
    """How far the CPU seconds of the rounds lie apart, as a share of the median."""


def summary(samples: Sequence[Sample]) -> Summary:
    cpus = [sample.cpu for sample in samples]
    pings = [seconds for sample in samples for seconds in sample.pings]
    return Summary(
        rate=median(sample.rate for sample in samples),
        cpu=median(cpus),
        client=median(sample.client_cpu for sample in samples),
        memory=median(sample.memory for sample in samples),
        ping=quantiles(pings, n=100, method="inclusive")[-1] * 1000 if len(pings) > 1 else 0.0,
        spread=(max(cpus) - min(cpus)) / median(cpus) if median(cpus) else 0.0,
    )


@dataclass(frozen=True)
class Server:
    """A running server."""

    variant: Variant
    pid: int
    port: int
    files: Path


@dataclass(frozen=True)
class Loaded:
    """The output of the client process, and the seconds of each ping."""

    output: bytes
    pings: tuple[float, ...]
    cpu: float
    """CPU seconds of that process, from its start to its end."""


@contextmanager
def running(tools: Tools, variant: Variant) -> Generator[Server]:
    """Run a server with an empty directory."""
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
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for(process: subprocess.Popen[bytes], port: int, variant: Variant) -> None:
    """Wait until a server responds."""
    until = time.monotonic() + START_TIME
    while True:
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=5)
            ping(connection, variant.ping)
            connection.close()
        except ConnectionError:
            if time.monotonic() > until or process.poll() is not None:
                raise
            time.sleep(0.02)
        else:
            return


def wait_for_answer(server: Server, seconds: float) -> None:
    """Wait until an overloaded server responds to a ping again."""
    until = time.monotonic() + seconds
    while True:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=seconds)
        try:
            ping(connection, server.variant.ping)
        except (OSError, http.client.HTTPException, MeasureError):
            if time.monotonic() > until:
                raise MeasureError(f"no response within {seconds} s") from None
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()


def ping(connection: http.client.HTTPConnection, path: str) -> float:
    """Return the seconds of one small request."""
    started = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise MeasureError(f"the status of a ping was {answer.status}")
    return time.perf_counter() - started


def send(
    server: Server,
    words: Sequence[str],
    plan: bytes = b"",
    *,
    ping: bool = False,
    cores: set[int] = processes.CLIENT_CORES,
) -> Loaded:
    """Run the client process, optionally with pings at the same time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with processes.cores(cores):
        client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with client:
            try:
                if client.stdin:
                    client.stdin.write(plan)
                    client.stdin.close()
                pings = tuple(ping_during(client, server)) if ping else ()
                output = client.stdout.read() if client.stdout else b""
            except BaseException:
                client.kill()
                raise
    if client.returncode:
        raise MeasureError(f"the load exited with {client.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Loaded(output, pings, cpu)


def ping_during(client: subprocess.Popen[bytes], server: Server) -> Generator[float]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    while client.poll() is None:
        yield ping(connection, server.variant.ping)
        time.sleep(PING_EVERY)
    connection.close()
