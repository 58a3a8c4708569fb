# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "cookiecutter>=2.6",
#     # Those of the generated service:
#     "aiofiles>=24.1",
#     "backports.zstd>=1.0; python_version < '3.14'",
#     "fastapi>=0.165",
#     "filetype>=1.2",
#     "prometheus-client>=0.22",
#     "pydantic-settings>=2.12",
#     "python-multipart>=0.0.20",
#     "redis>=7.0",
#     "structlog>=25.5",
#     "uvicorn[standard]>=0.54",
# ]
# ///
"""Measure what everything around a path operation costs, beside a bare application's.

uv run benchmarks/overhead.py
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import chart
import processes
import report
import side_by_side
from download_load import Plan
from download_measure import WRK, download
from load import HOST
from measure import GIB, MeasureError, Sample, Server, running, send, summary
from servers import HERE, Command, Tools, Variant, uvicorn

CONNECTIONS = 32
CHUNK = 1024
#: Microseconds over the bare application's, of a request and of a chunk.
PROMISED = {"request": 60.0, "stream": 2.0}


@dataclass(frozen=True)
class Scenario:
    """What is asked for: many `request`s, or a `stream` of many chunks."""

    kind: str
    size: int
    """Seconds of requests, or chunks."""

    @property
    def title(self) -> str:
        return "small requests" if self.kind == "request" else "chunks of 1 KiB"


Samples = Mapping[tuple[Variant, Scenario], Sequence[Sample]]


def start_ours(tools: Tools, files: Path, port: int) -> Command:
    # With everything that can be switched on around a path operation.
    env = tools.environment(
        files / "store", server__port=str(port), cors__origins="https://app.example.com"
    )
    words = [sys.executable, str(HERE / "our_service.py"), tools.package, "zero-copy"]
    return Command(words, files, env)


def start_app(tools: Tools, files: Path, port: int, *, app: str) -> Command:
    return uvicorn(f"overhead_routes:{app}", port)


def start_logged(tools: Tools, files: Path, port: int) -> Command:
    words = ["-m", "uvicorn", "overhead_routes:bare", "--port", str(port)]
    return Command([sys.executable, *words])


PING = "/overhead/request"
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
    chosen = side_by_side.choose(VARIANTS, options.only)
    if not WRK:
        sys.exit("There is no wrk here.")
    scenarios = [Scenario("request", 5), Scenario("stream", options.size)]
    with side_by_side.workshop(options, GIB) as tools:
        cases = dict.fromkeys(scenarios, chosen)
        samples = side_by_side.gather(cases, options.rounds, partial(measure, tools), describe)
    if not samples:
        sys.exit(1)
    text = page(samples, options.rounds)
    sys.stdout.write(text)
    if not options.only:
        side_by_side.write("overhead", text, picture(samples))
    over = {kind: costs_over_bare(samples, kind) for kind in PROMISED}
    sys.exit(any(figure > PROMISED[kind] for kind, figure in over.items()))


def parse() -> argparse.Namespace:
    names = [variant.name for variant in VARIANTS]
    parser = side_by_side.options(__doc__, "chunks of one stream (200000)", names)
    parser.set_defaults(size=200_000, rounds=5)
    return parser.parse_args()


def measure(tools: Tools, variant: Variant, scenario: Scenario) -> Sample:
    """Measure one load on a fresh server; cpu is in microseconds per request or chunk."""
    with running(tools, variant) as server:
        if scenario.kind == "request":
            return requests(server, scenario.size)
        return stream(server, scenario.size)


def requests(server: Server, seconds: int) -> Sample:
    ask(server, 1)
    before = processes.cpu_seconds(server.pid)
    done, client_cpu = ask(server, seconds)
    cpu = processes.cpu_seconds(server.pid) - before
    if done["failures"]:
        raise MeasureError(f"requests: {done}")
    return Sample(
        rate=done["requests"] / done["seconds"],
        cpu=cpu / done["requests"] * 1e6,
        client_cpu=client_cpu / done["seconds"],
    )


def ask(server: Server, seconds: int) -> tuple[dict[str, float], float]:
    words = [
        "wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s",
        f"--script={HERE / 'small.lua'}", f"http://{HOST}:{server.port}", "--", PING,
    ]  # fmt: skip
    loaded = send(server, words)
    done: dict[str, float] = json.loads(loaded.output.splitlines()[-1])
    return done, loaded.cpu


def stream(server: Server, count: int) -> Sample:
    def plan(chunks: int) -> Plan:
        return Plan(server.port, f"/overhead/stream?count={chunks}", 1, chunks * CHUNK)

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
    """Return the microseconds that ours takes beyond the bare application's."""
    cpu = {v.name: summary(found).cpu for (v, s), found in samples.items() if s.kind == kind}
    return cpu["ours"] - cpu["bare"] if {"ours", "bare"} <= cpu.keys() else 0.0


def page(samples: Samples, rounds: int) -> str:
    """Return one table per kind of load, then what is promised."""
    sections = [
        "# Around a path operation, side by side",
        f"{rounds} rounds of which the median is shown. "
        f"{report.machine(('fastapi', 'uvicorn'), [])}.",
        "![CPU microseconds per request](overhead.svg)",
        *(table(scenario, samples) for scenario in dict.fromkeys(s for _, s in samples)),
    ]
    rows = [
        [f"CPU-µs per {kind}", f"{figure:.1f}", f"<= {PROMISED[kind]:.0f}"]
        for kind, figure in ((kind, costs_over_bare(samples, kind)) for kind in PROMISED)
    ]
    columns = ["ours over bare", "measured", "promised"]
    sections.append(f"### Promises\n\n{report.markdown(columns, rows)}")
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
