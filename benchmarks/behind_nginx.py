"""Measure the service behind nginx with the configuration of the template; see README.md.

make bench-nginx
"""

import argparse
import http.client
import json
import socket
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import chart
import load
import raw
import report
import side_by_side
from download_measure import Scenario, measure
from download_servers import STORE, Download, start_nginx, start_ours
from measure import GIB, MIB, MeasureError, Sample, Server, Summary, free_port, running, summary
from report import markdown
from servers import HERE, Command, Tools

from nginx import configuration

#: Samples of each time.
TIMES = 100
#: Bytes of a piece of an upload, and those of them that the service may keep before it writes.
PIECE, KEPT = 2 * MIB, MIB
SCENARIO = Scenario("large", 8)


def start_behind(tools: Tools, files: Path, port: int) -> Command:
    """Run the service, and nginx in front of it, which also sends its files."""
    store, service = tools.directory / STORE, free_port()
    config = files / "nginx.conf"
    text = configuration(files, store, port, service)
    # The others have one worker, too.
    config.write_text(text.replace("worker_processes auto;", "worker_processes 1;"))
    env = tools.variables(
        store, server__port=str(service), server__trusted_proxies="127.0.0.1",
        download__offload="x-accel-redirect",
    )  # fmt: skip
    plan = {
        "port": service,
        "first": [tools.python, "-m", tools.package],
        "then": ["nginx", "-p", str(files), "-c", str(config), "-e", "stderr"],
    }
    return Command([sys.executable, str(HERE / "together.py"), json.dumps(plan)], files, env)


BEHIND = Download(
    "x-accel", "nginx, X-Accel-Redirect of the service", start_behind, "/files/{id}", ours=True,
    program="nginx",
)  # fmt: skip
PLAIN = Download("nginx", "nginx alone", start_nginx, "/{path}", ping="/ping", program="nginx")
DIRECT = Download(
    "direct", "the service alone", partial(start_ours, way="zero-copy"), "/files/{id}", ours=True
)


@dataclass(frozen=True)
class Time:
    """Something that a client waits for, and its limit in seconds."""

    name: str
    short: str
    sample: Callable[[Server, Path], Generator[float]]
    limit: float | None = None


def first_bytes(server: Server, _: Path) -> Generator[float]:
    """Yield how long an event stream takes to its first byte, connection included."""
    while True:
        began = time.perf_counter()
        with load.connect(server.port) as sock:
            read_until(subscribe(server, sock), b"retry:")
            yield time.perf_counter() - began


def events(server: Server, _: Path) -> Generator[float]:
    """Yield how long an event takes from the request of its publisher to a subscriber."""
    connection = http.client.HTTPConnection(load.HOST, server.port, timeout=load.PATIENCE)
    with load.connect(server.port) as sock, closing(connection):
        read_until(subscribe(server, sock), b"\n\n")
        while True:
            began = time.perf_counter()
            connection.request("POST", "/topics/times/events", b"1", {"Content-Type": "text/plain"})
            read_until(sock, b"data: 1\n\n")
            yield time.perf_counter() - began
            connection.getresponse().read()


def pieces(server: Server, store: Path) -> Generator[float]:
    """Yield how long a piece of an upload takes until the service has written it."""
    with load.connect(server.port) as sock:
        size = PIECE * (TIMES + 1)
        head = f"POST /files HTTP/1.1\r\nHost: {load.HOST}:{server.port}\r\nContent-Length: {size}"
        sock.sendall(head.encode() + b"\r\n\r\n")
        piece, sent = bytes(PIECE), 0
        while True:
            began = time.perf_counter()
            sock.sendall(piece)
            sent += PIECE
            while written(store) < sent - KEPT:
                if time.perf_counter() > began + load.PATIENCE:
                    raise MeasureError("the upload makes no progress")
            yield time.perf_counter() - began


def written(store: Path) -> int:
    return max((path.stat().st_size for path in (store / "parts").glob("*.part")), default=0)


def subscribe(server: Server, sock: socket.socket) -> socket.socket:
    host = f"Host: {load.HOST}:{server.port}"
    sock.sendall(f"GET /topics/times/events HTTP/1.1\r\n{host}\r\n\r\n".encode())
    return sock


def read_until(sock: socket.socket, end: bytes) -> None:
    received = b""
    while end not in received:
        if not (data := sock.recv(1 << 16)):
            raise MeasureError(f"the stream ended: {received[:500]!r}")
        received += data


CLIENT_TIMES = [
    Time("first byte of an event stream", "first byte", first_bytes, 0.050),
    Time("an event, from its publisher to a subscriber", "event", events),
    Time(
        "a piece of an upload, until the service has written it",
        "piece of an upload",
        pieces,
        0.100,
    ),
]
Times = dict[tuple[Download, Time], list[float]]
Samples = dict[tuple[Download, Scenario], list[Sample]]


def measure_times(tools: Tools, rounds: int, count: int) -> Times:
    """Measure each time with nginx and without, in turn."""
    found: Times = {(variant, each): [] for each in CLIENT_TIMES for variant in (DIRECT, BEHIND)}
    for _ in range(rounds):
        for (variant, each), seconds in found.items():
            with (
                running(tools, variant) as server,
                closing(each.sample(server, tools.directory / STORE)) as samples,
            ):
                next(samples)  # The first one also starts threads.
                seconds += [next(samples) for _ in range(count)]
    return found


def main() -> None:
    options = parse()
    if not PLAIN.available:
        side_by_side.leave_out("nginx is not installed")
    with side_by_side.workshop(options, options.size * MIB // 4 + GIB) as tools:
        scenario = SCENARIO.smoke() if options.smoke else SCENARIO
        measured = partial(measure, tools, size=options.size * MIB, pings=False)
        cases = {scenario: [PLAIN, BEHIND]}
        samples = side_by_side.gather(cases, options, measured, describe)
        if len(samples) < 2:
            sys.exit(1)
        times = measure_times(tools, options.rounds, 5 if options.smoke else options.times)
        text, kept = page(tools, samples, times, options.rounds)
    results = [*raw.results_of(samples), *results_of(times, options.rounds)]
    side_by_side.write(options, tools, ("nginx", text, picture(times)), results)
    sys.exit(not (kept or not options.bars))


def parse() -> argparse.Namespace:
    size = "MiB of all downloads of a round (2048)"
    parser = side_by_side.options(__doc__, size, [PLAIN.name, BEHIND.name])
    parser.set_defaults(size=2048)
    parser.add_argument("--bars", action="store_true", help="fail if a target is missed")
    options = parser.parse_args()
    options.times = TIMES
    if options.standard:
        options.size, options.rounds, options.times = 512, 2, 50
    if options.smoke:
        options.size, options.rounds = 8, 1
    return options


def describe(_: Scenario, sample: Sample) -> str:
    return f"{sample.rate:.0f} MiB/s, {sample.cpu:.2f} CPU-s per GiB"


def page(tools: Tools, samples: Samples, times: Times, rounds: int) -> tuple[str, bool]:
    """Return the report, and whether all targets are met."""
    sent = {variant: summary(found) for (variant, _), found in samples.items()}
    plain, ours, sides = sent[PLAIN], sent[BEHIND], (DIRECT, BEHIND)
    waits = [
        [
            each.name,
            *(cell for side in sides for cell in cells(times[side, each], rounds)),
        ]
        for each in CLIENT_TIMES
    ]
    targets = [("MiB/s of files, x nginx alone", ours.rate / plain.rate, 0.9, True)]
    targets += [
        (f"{each.name}, p99, ms", 1000 * p99(times[BEHIND, each]), 1000 * each.limit, False)
        for each in CLIENT_TIMES
        if each.limit
    ]
    kept = {
        name: found >= limit if at_least else found <= limit
        for name, found, limit, at_least in targets
    }
    checked = [
        [name, f"{found:.2f}", f"{'≥≤'[not least]} {limit:g}", "yes" if kept[name] else "NO"]
        for name, found, limit, least in targets
    ]
    machine = report.machine(tools, ["fastapi", "uvicorn"], [report.nginx_version()])
    sections = [
        "# Behind nginx",
        f"{rounds} rounds. {machine}.",
        "### 8 downloads at once, from the page cache",
        rates(sent),
        "### Times of clients, ms",
        "![Milliseconds](nginx.svg)",
        markdown(["", "alone", "±", "p99", "behind nginx", "±", "p99"], waits),
        "### Targets",
        markdown(["", "measured", "target", "met"], checked),
    ]
    return "\n\n".join(sections) + "\n", all(kept.values())


def rates(sent: dict[Download, Summary]) -> str:
    """Return the table of the downloads."""
    rows = [
        [
            variant.label,
            f"{s.rate:.0f}",
            f"{s.cpu:.2f}",
            f"{s.spread / 2:.0%}",
            f"{s.cpu / sent[PLAIN].cpu:.2f}",
            f"{s.client:.0%}",
        ]
        for variant, s in sent.items()
    ]
    return markdown(["", "MiB/s", "CPU-s/GiB", "±", "x nginx", "client busy"], rows)


def cells(seconds: list[float], rounds: int) -> list[str]:
    """Return the median, its spread over the rounds, and the 99th percentile, in ms."""
    each = [median(some) for some in by_round(seconds, rounds)]
    return [f"{1000 * median(seconds):.1f}", report.spread(each), f"{1000 * p99(seconds):.1f}"]


def by_round(seconds: list[float], rounds: int) -> list[list[float]]:
    size = len(seconds) // rounds
    return [seconds[start : start + size] for start in range(0, len(seconds), size)]


def results_of(times: Times, rounds: int) -> list[raw.Record]:
    return [
        raw.result(
            variant.name,
            variant.label,
            each.name,
            [
                {"ms": 1000 * median(some), "p99_ms": 1000 * p99(some)}
                for some in by_round(seconds, rounds)
            ],
        )
        for (variant, each), seconds in times.items()
    ]


def picture(times: Times) -> str:
    """Draw the times of clients."""
    rows = [
        chart.Row(
            each.short,
            (1000 * median(times[DIRECT, each]), 1000 * median(times[BEHIND, each])),
            own=True,
        )
        for each in CLIENT_TIMES
    ]
    return chart.bars("Milliseconds: shorter is better", ("alone", "behind nginx"), rows)


def p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[-1]


if __name__ == "__main__":
    main()
