"""Measure the cost of single requests below 100 kB on a service with much data.

make bench-single
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median

import raw
import report
import side_by_side
from load import HOST
from measure import GIB, MeasureError, running
from realtime_servers import running_redis
from servers import HERE, Command, Tools, Variant
from single_request_measure import LINGER, LINGER_IN_SMOKE, Cost, Meter, RedisClient
from single_request_state import APPENDED, PART, State, begin, publish
from single_request_table import MOST, REQUESTS, Single

#: Targets per request: milliseconds of CPU and Redis, MiB of memory and of writes.
PROMISED = {"cpu": 200.0, "memory": 16.0, "written": 64.0, "redis": 50.0}

#: The requests of the standard size: expensive ones of each module.
STANDARD = [
    "metrics", "listing", "archive of 1000", "export table", "prefix replay, SSE",
    "publish with a key", "ingest empty objects", "form of files",
]  # fmt: skip
BROKERS = ["memory", "redis"]
#: The cost of each request in each round, by broker.
Found = dict[str, dict[Single, list[Cost]]]


def start(tools: Tools, files: Path, port: int, *, broker: str, records: int) -> Command:
    """Start the service with a catalogue of a number of records."""
    store = files / "store"
    # Above the default, so that a replay from the start has no gap.
    kept = {"realtime__max_topics": "10100", "realtime__history_total": "512 MiB"}
    env = tools.variables(store, server__port=str(port), **kept)
    if broker:
        env["APP_REALTIME__BROKER_URL"] = broker
    words = [tools.python, str(HERE / "single_request_state.py"), tools.package, str(store)]
    made = subprocess.run([*words, str(records)], env=env, stdout=subprocess.PIPE, check=True)
    (files / "ids.json").write_bytes(made.stdout)
    return Command([tools.python, "-m", tools.package], files, env)


def main() -> None:
    options = parse()
    requests = [r for r in REQUESTS if not options.only or any(o in r.name for o in options.only)]
    if options.standard:
        requests = [single for single in requests if single.name in STANDARD]
    if not requests:
        sys.exit("no request matches")
    if "redis" in options.brokers and shutil.which("redis-server") is None:
        side_by_side.NOT_MEASURED["with redis"] = "redis-server is not installed"
        options.brokers = [broker for broker in options.brokers if broker != "redis"]
    found: Found = {broker: {single: [] for single in requests} for broker in options.brokers}
    with side_by_side.workshop(options, GIB) as tools:
        for _ in side_by_side.rounds(options):
            for broker, costs in found.items():
                for single, cost in measure(tools, broker, requests, options):
                    costs[single].append(cost)
        text = page(tools, found, options)
    made = ("single_request", text, "")
    side_by_side.write(options, tools, made, results_of(found))
    kept = not any(above(cost) for costs in found.values() for cost in medians(costs).values())
    complete = bool(found)
    sys.exit(not (complete and (kept or not options.bars)))


def parse() -> argparse.Namespace:
    parser = side_by_side.options(__doc__, "events (330000)", [])
    parser.set_defaults(size=330_000)
    parser.add_argument("--topics", type=int, default=10_000, help="topics with events (10000)")
    parser.add_argument(
        "--files", type=int, default=100_000, help="files in the catalogue (100000)"
    )
    parser.add_argument(
        "--brokers", type=lambda text: text.split(","), default=BROKERS, help="memory, redis"
    )
    parser.add_argument("--bars", action="store_true", help="fail if a target is missed")
    parser.set_defaults(rounds=1)
    options = parser.parse_args()
    if options.standard:
        options.topics, options.size, options.files = 1_000, 33_000, 10_000
        options.rounds, options.within = 3, 65
    if options.smoke:
        options.topics, options.size, options.files = 50, 500, 1000
    return options


def measure(
    tools: Tools, broker: str, requests: Sequence[Single], options: argparse.Namespace
) -> Generator[tuple[Single, Cost]]:
    """Measure all requests in turn, on one service with data."""
    with behind(broker) as (pid, url):
        starting = partial(start, broker=url, records=options.files)
        variant = Variant("ours", f"ours, {broker}", starting, ours=True)
        with running(tools, variant) as server:
            position = publish(server.port, options.topics, options.size)
            side_by_side.say(f"{broker}: {options.size} events on {options.topics} topics")
            state = State(
                host=f"{HOST}:{server.port}",
                ids=json.loads((server.files / "ids.json").read_text()),
                start=position,
                part=begin(server.port, PART, b"x" * PART),
                upload=begin(server.port, APPENDED),
            )
            linger = LINGER_IN_SMOKE if options.smoke else LINGER
            meter = Meter(server, (pid, RedisClient(url)) if url else None, linger)
            for single in requests:
                if len(single.build(state)) + len(single.then) > MOST:
                    raise MeasureError(f"{single.name} is larger than {MOST} bytes")
                cost = meter.measure(single, state)
                side_by_side.say(f"{broker}; {single.name}: {describe(cost)}")
                yield single, cost


@contextmanager
def behind(broker: str) -> Generator[tuple[int, str]]:
    """Run the Redis of a service, if it uses one."""
    if broker == "memory":
        yield 0, ""
        return
    with running_redis() as started:
        yield started


def above(cost: Cost) -> list[str]:
    """Return the values above the targets."""
    over = [name for name, limit in PROMISED.items() if getattr(cost, name) > limit]
    return [*over, *(["longest"] if cost.longest > PROMISED["redis"] else [])]


def describe(cost: Cost) -> str:
    return (
        f"{cost.status}, {cost.received:.1f} MiB taken, {cost.cpu:.0f} CPU-ms,"
        f" {cost.memory:.1f} MiB, {cost.written:.1f} MiB written, Redis {cost.redis:.0f} ms,"
        f" slowest {cost.longest:.0f} {' '.join(above(cost)).upper()}"
    )


def page(tools: Tools, found: Found, options: argparse.Namespace) -> str:
    """Return one table per broker, then the targets."""
    sections = [
        "# What one request costs",
        f"{options.size} events on {options.topics} topics, {options.files} files; "
        f"{options.rounds} rounds of which the median is shown. "
        f"{report.machine(tools, ('fastapi', 'uvicorn'), [])}.",
    ]
    for broker, costs in found.items():
        middle = medians(costs)
        spreads = {s: report.spread(each.cpu for each in some) for s, some in costs.items() if some}
        rows = [[single.name, *cells(cost, spreads[single])] for single, cost in middle.items()]
        columns = [
            "", "status", "bytes sent", "MiB taken", "CPU-ms", "±", "memory, MiB", "written, MiB",
            "Redis, ms", "slowest, ms", "above",
        ]  # fmt: skip
        sections.append(f"### With {broker}\n\n{report.markdown(columns, rows)}")
    sections.append(
        f"### Targets\n\n{report.markdown(['', 'the worst', 'target'], targets(found))}"
    )
    return "\n\n".join(sections) + "\n"


def medians(costs: Mapping[Single, Sequence[Cost]]) -> dict[Single, Cost]:
    """Return the median of each value over the rounds."""
    return {
        single: replace(
            some[0],
            **{
                name: median(getattr(cost, name) for cost in some)
                for name in ("received", "cpu", "memory", "written", "redis", "longest")
            },
        )
        for single, some in costs.items()
        if some
    }


def results_of(found: Found) -> list[raw.Record]:
    return [
        raw.result(broker, f"ours, {broker}", single.name, [asdict(cost) for cost in some])
        for broker, costs in found.items()
        for single, some in costs.items()
    ]


def cells(cost: Cost, spread: str) -> list[str]:
    figures = (cost.memory, cost.written, cost.redis, cost.longest)
    return [
        cost.status,
        f"{cost.sent}",
        f"{cost.received:.1f}",
        f"{cost.cpu:.1f}",
        spread,
        *(f"{each:.1f}" for each in figures),
        ", ".join(above(cost)),
    ]


def targets(found: Found) -> list[list[str]]:
    costs = [cost for each in found.values() for cost in medians(each).values()]
    rows = []
    for name, limit in PROMISED.items():
        worst = max((getattr(cost, name) for cost in costs), default=0.0)
        rows.append([name, f"{worst:.1f}", f"<= {limit:.0f}"])
    count = sum(bool(above(cost)) for cost in costs)
    return [*rows, ["requests above one of them", f"{count}", "0"]]


if __name__ == "__main__":
    main()
