"""Compare the tokens of a run in each format with FastAPI's own SSE; see README.md.

make bench-runs
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import chart
import raw
import report
import runs_measure
import side_by_side
from measure import GIB, Sample, summary
from report import markdown
from runs_measure import HELD_TOKENS, VARIANTS, Reader, Scenario, measure
from servers import Tools

#: Tokens of a run, and seconds between two that are sent one at a time.
TOKENS, PAUSE = 10_000, 0.001
#: Runs that are active while their memory is measured, and measured stops.
HELD, STOPS = 10, 50
#: The variants of the standard size.
STANDARD = ["events", "openai", "ai-sdk", "redis", "native"]

Samples = Mapping[tuple[Reader, Scenario], Sequence[Sample]]


@dataclass(frozen=True)
class Figure:
    """A measured value and its limit."""

    words: str
    measured: float
    limit: float

    @property
    def kept(self) -> bool:
        return self.measured <= self.limit


def main() -> None:
    options = parse()
    names = STANDARD if options.standard else None
    chosen = side_by_side.choose(VARIANTS, options.only or names)
    scenarios = [
        Scenario("One token at a time", options.size // 4, PAUSE),
        Scenario("As fast as possible", options.size, 0.0),
    ]
    with side_by_side.workshop(options, GIB) as tools:
        cases = dict.fromkeys(scenarios, chosen)
        samples = side_by_side.gather(cases, options, partial(measure, tools), describe)
        if not samples:
            sys.exit(1)
        figures = [*costs(samples), *others(tools, chosen, smoke=options.smoke)]
        text = page(tools, samples, figures, options.rounds)
    made = ("runs", text, picture(samples))
    side_by_side.write(options, tools, made, raw.results_of(samples))
    complete = {variant for variant, _ in samples} == set(chosen)
    kept = all(figure.kept for figure in figures)
    sys.exit(not (complete and (kept or not options.bars)))


def parse() -> argparse.Namespace:
    names = [variant.name for variant in VARIANTS]
    parser = side_by_side.options(__doc__, f"tokens of a run ({TOKENS})", names)
    parser.set_defaults(size=TOKENS)
    parser.add_argument("--bars", action="store_true", help="fail if a target is missed")
    options = parser.parse_args()
    if options.standard:
        options.size, options.within = 4000, 40
    if options.smoke:
        options.size, options.rounds = 400, 1
    return options


def describe(_: Scenario, sample: Sample) -> str:
    return f"{sample.cpu:.1f} CPU-µs per token, {sample.rate:,.0f} tokens/s"


def costs(samples: Samples) -> Iterator[Figure]:
    """Yield the cost of each format at full speed, and with pauses its ratio to FastAPI's own."""
    cpu = {key: summary(found).cpu for key, found in samples.items()}
    native = {scenario: each for (variant, scenario), each in cpu.items() if not variant.ours}
    for (variant, scenario), each in cpu.items():
        if variant.ours and not variant.redis:
            if not scenario.pause:
                yield Figure(f"{variant.label}: CPU-µs per token at full speed", each, 40)
            elif scenario in native:
                words = f"{variant.label}: CPU time with pauses, x native"
                yield Figure(words, each / native[scenario], 1)


def others(tools: Tools, variants: Sequence[Reader], *, smoke: bool) -> Iterator[Figure]:
    """Yield the memory of a run and the time of a stop, with each broker."""
    for variant in variants:
        if variant.name in ("events", "redis"):
            memory = runs_measure.held(tools, variant, 2 if smoke else HELD)
            words = f"{variant.label}: MiB that a run of {HELD_TOKENS:,} tokens holds"
            yield Figure(words, memory, 4)
            times = runs_measure.stops(tools, variant, 2 if smoke else STOPS)
            where = "in another process" if variant.redis else "in the same process"
            yield Figure(f"slowest of {len(times)} stops {where}, ms", max(times), 200)


def page(tools: Tools, samples: Samples, figures: Sequence[Figure], rounds: int) -> str:
    """Return one table per load, then the targets."""
    packages = ("fastapi", "uvicorn", "uvloop")
    rows = [
        [each.words, f"{each.measured:.2f}", f"≤ {each.limit:g}", "yes" if each.kept else "NO"]
        for each in figures
    ]
    sections = [
        "# Tokens of a run, side by side",
        f"One follower, {rounds} rounds of which the median is shown. "
        f"{report.machine(tools, packages, [])}.",
        "![CPU microseconds per token](runs.svg)",
        *(table(scenario, samples) for scenario in dict.fromkeys(s for _, s in samples)),
        f"### Targets\n\n{markdown(['', 'measured', 'target', 'met'], rows)}",
    ]
    return "\n\n".join(sections) + "\n"


def table(scenario: Scenario, samples: Samples) -> str:
    found = {
        variant: summary(taken) for (variant, each), taken in samples.items() if each == scenario
    }
    native = next((s.cpu for variant, s in found.items() if variant.name == "native"), math.nan)
    rows = [
        [
            variant.label,
            f"{s.cpu:.1f}",
            f"{s.spread / 2:.0%}",
            "" if math.isnan(native) else f"{s.cpu / native:.2f}",
            f"{s.rate:,.0f}",
            f"{s.client:.0%}",
        ]
        for variant, s in found.items()
    ]
    columns = ["", "CPU-µs per token", "±", "x native", "tokens/s", "client busy"]
    return f"### {scenario.title}, {scenario.tokens:,} tokens\n\n{markdown(columns, rows)}"


def picture(samples: Samples) -> str:
    values: dict[Reader, list[float]] = {}
    for (variant, _), found in samples.items():
        values.setdefault(variant, []).append(summary(found).cpu)
    rows = [chart.Row(v.label, (cpu[0], cpu[1]), v.ours) for v, cpu in values.items()]
    legend = ("one at a time", "as fast as possible")
    return chart.bars("CPU microseconds per token: shorter is better", legend, rows)


if __name__ == "__main__":
    main()
