"""Measure the response times for other clients while hostile clients attack a service.

make bench-hostile
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import chart
import processes
import raw
import report
import side_by_side
from hostile_attacks import ATTACKS, BY_NAME, Attack
from measure import GIB, MIB, MeasureError, Server, running, wait_for_answer
from realtime_servers import running_redis
from servers import HERE, Command, Tools, Variant, uvicorn

#: Maximum seconds of 99 of 100 health checks, by the number of hostile connections.
PROMISED = {1: 0.25, 20: 1.0}
#: The attacks of the standard size: one of each kind that costs the most.
STANDARD = ["empty", "paced", "headers", "chunks", "form-headers", "jsonl"]
#: Seconds after which the watchdog reports a stuck loop; a worker is replaced after twice that.
STUCK_AFTER = 1
WORKERS = 2
#: Seconds of probes after the attack, which detect delayed effects.
AFTER = 0.5
#: Maximum seconds until an attacked server responds again.
RECOVERY = 15

STALL, REPLACED = b"The event loop has not answered", b"The event loop is stuck: process"
STARTED = b"Started server process"


@dataclass(frozen=True)
class Survived:
    """The results of one attack."""

    attack: Attack
    connections: int
    answers: tuple[float, ...]
    errors: int
    cpu: float
    """Seconds of the server per second."""
    memory: float
    """MiB that it had at most, over what it had before."""
    sent: float
    """MiB/s of the attack."""
    stalls: int
    replaced: int
    rounds: tuple[float, ...] = ()
    """The 99th percentiles of all rounds, if this is the sum of them."""

    @property
    def p50(self) -> float:
        return self._cuts[49]

    @property
    def p99(self) -> float:
        return self._cuts[98]

    @property
    def worst(self) -> float:
        return max(self.answers)

    @property
    def kept(self) -> bool:
        """Whether the targets are met."""
        limit = PROMISED.get(self.connections, max(PROMISED.values()))
        return not self.errors and not self.replaced and self.p99 <= limit

    @property
    def _cuts(self) -> list[float]:
        answers = self.answers if len(self.answers) > 1 else self.answers * 2
        return quantiles(answers, n=100, method="inclusive")


def start_ours(tools: Tools, files: Path, port: int, *, broker: str = "") -> Command:
    settings = {
        "server__port": str(port),
        "server__stuck_after": str(STUCK_AFTER),
        "server__drain_timeout": "1",
    }
    if broker:
        settings |= {"realtime__broker_url": broker, "server__workers": str(WORKERS)}
    env = tools.variables(files / "store", **settings)
    return Command([tools.python, "-m", tools.package], files, env)


def start_theirs(tools: Tools, files: Path, port: int) -> Command:
    return uvicorn(tools, "naive_hostile:app", port)


OURS = Variant("ours", "ours", start_ours, ours=True)
VARIANTS = [
    OURS,
    Variant("workers", f"ours, {WORKERS} workers", start_ours, ours=True, program="redis-server"),
    Variant("bare", "FastAPI, bare", start_theirs),
]


def main() -> None:
    options = parse()
    sides = ["ours"] if options.standard else None
    chosen = side_by_side.choose(VARIANTS, options.sides or sides)
    attacks = [BY_NAME[name] for name in options.only or (STANDARD if sides else BY_NAME)]
    found: dict[str, list[Survived]] = {variant.name: [] for variant in chosen}
    with side_by_side.workshop(options, GIB) as tools:
        for _ in side_by_side.rounds(options):
            for attack in attacks:
                for variant in chosen:
                    found[variant.name] += attacked(tools, variant, attack, options.seconds)
        found = {name: together(results) for name, results in found.items()}
        text = page(tools, found, options)
    made = ("hostile", text, picture(found.get("ours", [])))
    whole = not options.sides
    side_by_side.write(options, tools, made, results_of(found), whole=whole)
    ours = [each for variant in chosen if variant.ours for each in found[variant.name]]
    complete = len(ours) == len(PROMISED) * len(attacks) * sum(v.ours for v in chosen)
    sys.exit(not (complete and (all(each.kept for each in ours) or not options.bars)))


def parse() -> argparse.Namespace:
    parser = side_by_side.options(__doc__, "not used", [attack.name for attack in ATTACKS])
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of an attack (5)")
    parser.add_argument("--sides", type=lambda text: text.split(","), help="ours, workers, bare")
    parser.add_argument("--bars", action="store_true", help="fail if a target is missed")
    parser.set_defaults(rounds=1)
    options = parser.parse_args()
    if options.standard:
        options.seconds, options.rounds, options.within = 1.0, 3, 70
    if options.smoke:
        options.seconds, options.rounds = 0.5, 1
    if unknown := set(options.only or ()) - BY_NAME.keys():
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join(BY_NAME)}")
    return options


def attacked(tools: Tools, variant: Variant, attack: Attack, seconds: float) -> list[Survived]:
    """Attack a new server with one connection, then with many; return the results."""
    if not (variant.ours or attack.theirs):
        return []
    results = []
    with ExitStack() as stack:
        if variant.name == "workers":
            _, broker = stack.enter_context(running_redis())
            start = partial(start_ours, broker=broker)
            variant = Variant(variant.name, variant.label, start, ours=True)
        try:
            with running(tools, variant) as server:
                for connections in PROMISED:
                    wait_for_answer(server, RECOVERY)
                    done = survive(tools, server, attack, connections, seconds)
                    results.append(done)
                    side_by_side.say(f"{variant.label}; {attack.title}: {describe(done)}")
        except MeasureError as error:
            said = str(error).partition("\n")[0]
            side_by_side.say(f"{variant.label}; {attack.title}: {said}")
    return results


def survive(
    tools: Tools, server: Server, attack: Attack, connections: int, seconds: float
) -> Survived:
    log = tools.directory / "server.log"
    said = log.stat().st_size
    memory = processes.forget_peak(server.pid)
    cpu = processes.cpu_seconds(server.pid)
    with processes.cores(processes.CLIENT_CORES):
        probing = start("hostile_probe.py", path="/health/live", port=server.port,
                        seconds=seconds + AFTER)  # fmt: skip
        attacking = start("hostile_load.py", port=server.port, attack=attack.name,
                          theirs=not server.variant.ours, connections=connections,
                          seconds=seconds)  # fmt: skip
    started = time.monotonic()
    load, probed = (json.loads(process.communicate()[0]) for process in (attacking, probing))
    cpu = (processes.cpu_seconds(server.pid) - cpu) / (time.monotonic() - started)
    lines = log.read_bytes()[said:]
    return Survived(
        attack,
        connections,
        tuple(probed["answers"]),
        probed["errors"],
        max(0.0, cpu),  # The CPU time of a replaced worker is unknown.
        max(0.0, (processes.peak(server.pid) - memory) / MIB),
        load["sent"] / MIB / seconds,
        lines.count(STALL),
        max(lines.count(REPLACED), lines.count(STARTED)),
    )


def together(results: Sequence[Survived]) -> list[Survived]:
    """Return one result per attack: all probes of all rounds, and the sum of the errors."""
    rounds: dict[tuple[Attack, int], list[Survived]] = {}
    for each in results:
        rounds.setdefault((each.attack, each.connections), []).append(each)
    return [
        Survived(
            attack,
            connections,
            tuple(seconds for each in some for seconds in each.answers),
            sum(each.errors for each in some),
            median(each.cpu for each in some),
            max(each.memory for each in some),
            median(each.sent for each in some),
            sum(each.stalls for each in some),
            sum(each.replaced for each in some),
            tuple(each.p99 for each in some),
        )
        for (attack, connections), some in rounds.items()
    ]


def start(program: str, **plan: object) -> "subprocess.Popen[bytes]":
    words = [sys.executable, str(HERE / program)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if process.stdin:
        process.stdin.write(json.dumps(plan).encode())
        process.stdin.close()
        process.stdin = None
    return process


def describe(done: Survived) -> str:
    return (
        f"{done.connections} connections, p50 {done.p50 * 1000:.0f} ms, p99 {done.p99 * 1000:.0f},"
        f" max {done.worst * 1000:.0f}, {done.errors} errors, CPU {done.cpu:.0%},"
        f" {done.memory:.0f} MiB, {done.stalls} stalls, {done.replaced} replaced,"
        f" {done.sent:.1f} MiB/s"
    )


def page(tools: Tools, found: dict[str, list[Survived]], options: argparse.Namespace) -> str:
    """Return one table per side and number of connections, then the targets."""
    sections = [
        "# Hostile clients",
        f"Each attack for {options.seconds:g} seconds, {options.rounds} rounds. "
        f"{report.machine(tools, ('fastapi', 'uvicorn', 'websockets'), [])}.",
    ]
    labels = {variant.name: variant.label for variant in VARIANTS}
    theirs = {(each.attack, each.connections): each for each in found.get("bare", ())}
    for name, results in found.items():
        for connections in PROMISED:
            some = [each for each in results if each.connections == connections]
            if some:
                title = f"### {labels[name]}; {connections} hostile"
                sections.append(f"{title}\n\n{table(some, {} if name == 'bare' else theirs)}")
    ours = [each for name, some in found.items() if name != "bare" for each in some]
    rows = []
    for connections, limit in PROMISED.items():
        worst = max((e.p99 for e in ours if e.connections == connections), default=0.0)
        rows.append([f"p99, {connections} hostile", f"{worst:.3f} s", f"<= {limit:g} s"])
    rows.append(["health checks without a 200", f"{sum(e.errors for e in ours)}", "0"])
    rows.append(["workers replaced", f"{sum(e.replaced for e in ours)}", "0"])
    columns = ["the worst of ours", "measured", "target"]
    sections.append(f"### Targets\n\n{report.markdown(columns, rows)}")
    return "\n\n".join(sections) + "\n"


def table(results: Sequence[Survived], theirs: dict[tuple[Attack, int], Survived]) -> str:
    rows = []
    for each in results:
        beside = theirs.get((each.attack, each.connections))
        rows.append([
            each.attack.title, f"{each.p50 * 1000:.0f}", f"{each.p99 * 1000:.0f}",
            report.spread(each.rounds), f"{each.worst * 1000:.0f}",
            f"{each.errors}", f"{each.cpu:.0%}", f"{each.memory:.1f}", f"{each.sent:.1f}",
            f"{each.stalls}", f"{each.replaced}",
            f"{each.p99 / beside.p99:.2f}" if beside else "",
            "" if each.kept else "ABOVE",
        ])  # fmt: skip
    columns = [
        "", "p50 ms", "p99 ms", "±", "max ms", "errors", "CPU", "MiB", "MiB/s sent", "stalls",
        "replaced", "p99 / bare", "",
    ]  # fmt: skip
    return report.markdown(columns, rows)


def results_of(found: dict[str, list[Survived]]) -> list[raw.Record]:
    labels = {variant.name: variant.label for variant in VARIANTS}
    return [
        raw.result(
            name,
            labels[name],
            f"{each.attack.title}; {each.connections} hostile",
            [
                {
                    "p50": each.p50,
                    "p99": p99,
                    "max": each.worst,
                    "errors": each.errors,
                    "cpu": each.cpu,
                    "memory": each.memory,
                    "sent": each.sent,
                    "replaced": each.replaced,
                }
                for p99 in each.rounds
            ],
        )
        for name, results in found.items()
        for each in results
    ]


def picture(ours: Sequence[Survived]) -> str:
    """Draw the response times during the attacks."""
    p99 = {(each.attack, each.connections): each.p99 * 1000 for each in ours}
    few, many = PROMISED
    rows = [
        chart.Row(attack.title, (p99[attack, few], p99[attack, many]), own=True)
        for attack in dict.fromkeys(each.attack for each in ours)
        if (attack, many) in p99
    ]
    title = "Health checks during an attack, p99 in ms (less is better)"
    legend = (f"{few} hostile connection", f"{many} hostile connections")
    return chart.bars(title, legend, rows) if rows else ""


if __name__ == "__main__":
    main()
