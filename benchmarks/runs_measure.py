"""Measure the cost of the tokens of a run, the memory that it holds, and the time of a stop."""

import json
import socket
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import load
import processes
from load import HOST, Answer
from measure import MIB, MeasureError, Sample, Server, running
from realtime_measure import beside
from realtime_servers import running_redis
from servers import HERE, Command, Tools, Variant, uvicorn

#: Tokens of the first run, and the byte that occurs once in every token.
WARM_UP, MARK = 200, b"~"
#: Tokens of the runs whose memory is measured, and of those that are stopped, with the seconds
#: between two of these.
HELD_TOKENS, MANY, STOP_PAUSE = 10_000, 1_000_000, 0.005


@dataclass(frozen=True)
class Scenario:
    """A number of tokens, with a pause in seconds between two of them."""

    title: str
    tokens: int
    pause: float


@dataclass(frozen=True)
class Reader(Variant):
    """A format in which a run is read."""

    path: str
    redis: bool = False


def start_ours(tools: Tools, files: Path, port: int, broker: str = "memory:") -> Command:
    env = tools.variables(files, server__port=str(port), realtime__broker_url=broker)
    return Command([tools.python, str(HERE / "our_runs.py"), tools.package], files, env)


def start_naive(tools: Tools, files: Path, port: int) -> Command:
    return uvicorn(tools, "naive_runs:app", port)


VARIANTS = [
    Reader("events", "ours, SSE", start_ours, "events", ours=True),
    Reader("lines", "ours, JSON Lines", start_ours, "lines", ours=True),
    Reader("text", "ours, text", start_ours, "text", ours=True),
    Reader("openai", "ours, OpenAI", start_ours, "openai", ours=True),
    Reader("ai-sdk", "ours, AI SDK", start_ours, "ai-sdk", ours=True),
    Reader("ag-ui", "ours, AG-UI", start_ours, "ag-ui", ours=True),
    Reader(
        "redis", "ours on Redis, SSE", start_ours, "events",
        redis=True, ours=True, program="redis-server",
    ),
    Reader("native", "FastAPI, its own SSE", start_naive, "native"),
]  # fmt: skip


def measure(tools: Tools, variant: Reader, scenario: Scenario) -> Sample:
    """Measure one run on a new server; cpu is in microseconds per token, of the server."""
    with serving(tools, variant) as ([server], _):
        read(server, variant.path, WARM_UP)
        before, own = processes.cpu_seconds(server.pid), time.process_time()
        started = time.perf_counter()
        read(server, variant.path, scenario.tokens, scenario.pause)
        seconds = time.perf_counter() - started
        cpu, own = processes.cpu_seconds(server.pid) - before, time.process_time() - own
    return Sample(scenario.tokens / seconds, cpu / scenario.tokens * 1e6, own / seconds)


def held(tools: Tools, variant: Reader, runs: int) -> float:
    """Return the MiB by which the server, and its Redis, have grown at most for each of some runs.

    The runs and their followers are active at the same time.
    """
    with serving(tools, variant) as ([server], redis):
        pids = [server.pid, *redis]
        read(server, variant.path, HELD_TOKENS)
        before = sum(map(processes.forget_peak, pids))
        load.at_once(runs, lambda _: read(server, variant.path, HELD_TOKENS, 0.0001))
        return (sum(map(processes.peak, pids)) - before) / MIB / runs


def stops(tools: Tools, variant: Reader, rounds: int) -> list[float]:
    """Return the milliseconds from requesting a stop until a follower receives the end.

    With Redis the run is in one process; its follower, and the request, are in another.
    """
    with serving(tools, variant, servers=1 + variant.redis) as (servers, _):
        return [stop(servers[0], servers[-1]) for _ in range(rounds)]


def stop(generator: Server, other: Server) -> float:
    started = post(generator, "/runs/tokens", {"count": MANY, "pause": STOP_PAUSE})
    run_id = json.loads(started)["id"]
    with load.connect(other.port) as sock:
        sock.sendall(f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        until(sock, MARK)
        since = time.perf_counter()
        post(other, f"/runs/{run_id}/stop")
        until(sock, b"event: end")
        return (time.perf_counter() - since) * 1000


def post(server: Server, path: str, body: object = None) -> bytes:
    connection = HTTPConnection(HOST, server.port, timeout=load.PATIENCE)
    with closing(connection):
        content = None if body is None else json.dumps(body).encode()
        connection.request("POST", path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    if response.status not in (201, 202):
        raise MeasureError(f"the status of {path} was {response.status}")
    return answer


def until(sock: socket.socket, mark: bytes) -> None:
    """Read until some bytes have arrived."""
    end = b""
    while mark not in end:
        if not (data := sock.recv(1 << 16)):
            raise MeasureError(f"the stream was closed before {mark!r}")
        end = end[-len(mark) :] + data


@contextmanager
def serving(
    tools: Tools, variant: Reader, servers: int = 1
) -> Generator[tuple[list[Server], list[int]]]:
    """Run servers, and their Redis if they have one; yield its process, too."""
    with ExitStack() as stack:
        redis = []
        if variant.redis:
            pid, address = stack.enter_context(running_redis())
            redis.append(pid)
            variant = replace(variant, start=partial(start_ours, broker=address))
        started = [running(beside(tools, number), variant) for number in range(servers)]
        stack.enter_context(processes.cores(processes.CLIENT_CORES))
        yield [stack.enter_context(each) for each in started], redis


def read(server: Server, path: str, tokens: int, pause: float = 0.0) -> None:
    """Start a run, and read all of its tokens."""
    answer, found, is_last = Answer(), 0, False
    with load.connect(server.port) as sock:
        target = f"/tokens/{path}?count={tokens}&pause={pause}"
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        while not is_last:
            data = sock.recv(1 << 16)
            found += data.count(MARK)
            is_last = answer.take(data)
    answer.expect(b"200")
    if found != tokens:
        raise MeasureError(f"{found} of {tokens} tokens arrived")
