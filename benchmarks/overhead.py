"""Compare the overhead around a path operation with a bare application.

make bench-overhead
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import chart
import processes
import raw
import report
import side_by_side
from download_load import Plan
from download_measure import ask, download
from measure import GIB, Sample, Server, running, summary
from servers import HERE, Command, Tools, Variant, uvicorn

CONNECTIONS = 32
CHUNK = 1024
#: Maximum additional microseconds per request and per chunk.
PROMISED = {"request": 60.0, "stream": 2.0, "events": 2.0}
TITLES = {
    "request": "small requests",
    "stream": "chunks of 1 KiB of a StreamingResponse",
    "events": "events of 1 KiB of an EventSourceResponse",
}


@dataclass(frozen=True)
class Scenario:
    """The kind of load: many `request`s, a `stream` of many chunks, or many `events`."""

    kind: str
    size: float
    """Seconds of requests, or chunks, or events."""

    @property
    def title(self) -> str:
        return TITLES[self.kind]


Samples = Mapping[tuple[Variant, Scenario], Sequence[Sample]]


def start_ours(tools: Tools, files: Path, port: int) -> Command:
    # With all optional middleware.
    env = tools.variables(
        files / "store", server__port=str(port), cors__origins="https://app.example.com"
    )
    words = [tools.python, str(HERE / "our_service.py"), tools.package, "zero-copy"]
    return Command(words, files, env)


def start_app(tools: Tools, files: Path, port: int, *, app: str) -> Command:
    return uvicorn(tools, f"overhead_routes:{app}", port)


def start_logged(tools: Tools, files: Path, port: int) -> Command:
    return uvicorn(tools, "overhead_routes:bare", port, "--access-log")


PING = "/overhead/request"
#: The variants of the standard size.
STANDARD = ["ours", "bare", "http"]
VARIANTS = [
    Variant("ours", "ours, everything on", start_ours, ours=True),
    Variant("bare", "FastAPI, bare", partial(start_app, app="bare"), ping=PING),
    Variant("log", "FastAPI, uvicorn's access log", start_logged, ping=PING),
    Variant(
        "http",
        "FastAPI, one BaseHTTPMiddleware",
        partial(start_app, app="with_middleware"),
        ping=PING,
    ),
]


def main() -> None:
    options = parse()
    names = STANDARD if options.standard else None
    chosen = side_by_side.choose(VARIANTS, options.only or names)
    seconds = 0.2 if options.smoke else 1.5 if options.standard else 5.0
    # An event takes several times as long as a chunk.
    sizes = {"request": seconds, "stream": options.size, "events": options.size // 4}
    scenarios = [Scenario(kind, size) for kind, size in sizes.items()]
    with side_by_side.workshop(options, GIB) as tools:
        cases = dict.fromkeys(scenarios, chosen)
        samples = side_by_side.gather(cases, options, partial(measure, tools), describe)
        if not samples:
            sys.exit(1)
        text = page(tools, samples, options.rounds)
    made = ("overhead", text, picture(samples))
    side_by_side.write(options, tools, made, raw.results_of(samples))
    complete = {variant for variant, _ in samples} == set(chosen)
    kept = all(costs_over_bare(samples, kind) <= limit for kind, limit in PROMISED.items())
    sys.exit(not (complete and (kept or not options.bars)))


def parse() -> argparse.Namespace:
    names = [variant.name for variant in VARIANTS]
    parser = side_by_side.options(__doc__, "chunks of one stream (200000)", names)
    parser.set_defaults(size=200_000, rounds=5)
    parser.add_argument("--bars", action="store_true", help="fail if a target is missed")
    options = parser.parse_args()
    if options.standard:
        options.size, options.within = 50_000, 65
    if options.smoke:
        options.size, options.rounds = 2000, 1
    if options.bars:
        options.only = options.only or ["ours", "bare"]
    return options


def measure(tools: Tools, variant: Variant, scenario: Scenario) -> Sample:
    """Measure one load on a new server; cpu is in microseconds per request or chunk."""
    with running(tools, variant) as server:
        if scenario.kind == "request":
            ask(server, [PING], CONNECTIONS, min(1, scenario.size))
            return ask(server, [PING], CONNECTIONS, scenario.size)
        return stream(server, scenario.kind, int(scenario.size))


def stream(server: Server, kind: str, count: int) -> Sample:
    def plan(chunks: int) -> Plan:
        return Plan(server.port, f"/overhead/{kind}?count={chunks}", 1, chunks * CHUNK)

    download(server, plan(1000))
    before = processes.cpu_seconds(server.pid)
    result, _ = download(server, plan(count))
    cpu = processes.cpu_seconds(server.pid) - before
    return Sample(
        rate=count / result.seconds,
        cpu=cpu / count * 1e6,
        client_cpu=result.client_cpu / result.seconds,
    )


def describe(scenario: Scenario, sample: Sample) -> str:
    return f"{sample.rate:.0f}/s, {sample.cpu:.2f} CPU-µs each"


def costs_over_bare(samples: Samples, kind: str) -> float:
    """Return the additional microseconds of the service over the bare application."""
    cpu = {v.name: summary(found).cpu for (v, s), found in samples.items() if s.kind == kind}
    return cpu["ours"] - cpu["bare"] if {"ours", "bare"} <= cpu.keys() else 0.0


def page(tools: Tools, samples: Samples, rounds: int) -> str:
    """Return one table per kind of load, then the targets."""
    sections = [
        "# Around a path operation, side by side",
        f"{rounds} rounds of which the median is shown. "
        f"{report.machine(tools, ('fastapi', 'uvicorn'), [])}.",
        "![CPU microseconds per request](overhead.svg)",
        *(table(scenario, samples) for scenario in dict.fromkeys(s for _, s in samples)),
    ]
    rows = [
        [f"CPU-µs per {kind}", f"{figure:.1f}", f"<= {PROMISED[kind]:.0f}"]
        for kind, figure in ((kind, costs_over_bare(samples, kind)) for kind in PROMISED)
    ]
    columns = ["ours over bare", "measured", "target"]
    sections.append(f"### Targets\n\n{report.markdown(columns, rows)}")
    return "\n\n".join(sections) + "\n"


def table(scenario: Scenario, samples: Samples) -> str:
    rows = []
    for (variant, each), found in samples.items():
        if each == scenario:
            s = summary(found)
            rows.append([variant.label, f"{s.rate:.0f}", f"{s.cpu:.2f}", f"{s.spread / 2:.0%}"])
    columns = ["", "per second", "CPU-µs each", "±"]
    return f"### {scenario.title}\n\n{report.markdown(columns, rows)}"


def picture(samples: Samples) -> str:
    by_variant: dict[Variant, dict[str, float]] = {}
    for (variant, scenario), found in samples.items():
        by_variant.setdefault(variant, {})[scenario.kind] = summary(found).cpu
    rows = [
        chart.Row(variant.label, (cpu["request"], cpu["stream"]), variant.ours)
        for variant, cpu in by_variant.items()
    ]
    return chart.bars(
        "CPU microseconds: shorter is better", ("per request", "per chunk of 1 KiB"), rows
    )


if __name__ == "__main__":
    main()
