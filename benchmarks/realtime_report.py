"""The results of events as Markdown and as a chart, and the targets."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import chart
import report
from measure import summary
from realtime_measure import SIZE, Delivery, Scenario
from realtime_servers import Realtime
from report import markdown
from servers import Tools

Samples = Mapping[tuple[Realtime, Scenario], Sequence[Delivery]]

#: Subscribers in the chart, and the value at which bars are cut, so that others stay visible.
DRAWN, LONGEST = (1_000, 5_000), 150.0
#: Errors, for which the maximum is reported.
COUNTS = ("refused", "cut", "missing")
#: Python 3.11 cannot start tasks eagerly.
CPU_LIMIT = 26 if sys.version_info >= (3, 12) else 34


@dataclass(frozen=True)
class Target:
    """A limit for a result, or for its ratio to `than`; a lower limit if `cheaper`."""

    words: str
    figure: str
    limit: float
    subscribers: tuple[int, ...] = DRAWN
    than: str = ""
    cheaper: bool = False

    def kept(self, measured: float) -> bool:
        return measured >= self.limit if self.cheaper else measured <= self.limit


TARGETS = [
    Target("CPU microseconds per delivery", "cpu", CPU_LIMIT),
    Target("CPU time, x nchan", "cpu", 2.5, than="nchan"),
    Target("CPU time of FastAPI's own SSE, x ours", "cpu", 14, than="native", cheaper=True),
    Target("KiB per idle connection", "memory", 20, (1_000, 5_000, 10_000)),
    Target("deliveries missing", "missing", 0, (10_000,)),
    Target("streams cut", "cut", 0, (10_000,)),
]


def page(tools: Tools, samples: Samples, rounds: int) -> str:
    """Return one table per number of subscribers, then the targets."""
    used = {variant.program for variant, _ in samples}
    programs = [report.nginx_version()] if "nginx" in used else []
    if "redis-server" in used:
        words = report.output("redis-server", "--version")
        programs.append(f"Redis {words.partition('v=')[2].split()[0]}")
    packages = ("fastapi", "uvicorn", "uvloop", "sse-starlette")
    sections = [
        "# Events, side by side",
        f"Events of {SIZE} bytes, {rounds} rounds of which the median is shown. "
        f"{report.machine(tools, packages, programs)}.",
        "![CPU microseconds per delivery](realtime.svg)",
        *(table(scenario, samples) for scenario in _scenarios(samples)),
        targets(samples),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def table(scenario: Scenario, samples: Samples) -> str:
    columns = [
        "", "CPU-µs each", "±", "x nchan", "Redis, CPU-µs", "deliveries/s", "p50, ms", "p99, ms",
        "KiB per connection", "refused", "cut", "missing", "client busy",
    ]  # fmt: skip
    found = _found(scenario, samples)
    nchan = next((middle("cpu", s) for v, s in found.items() if v.name == "nchan"), math.nan)
    rows = [
        [
            variant.label,
            _cell(middle("cpu", s), ".1f"),
            _cell(summary(s).spread / 2, ".0%"),
            _cell(middle("cpu", s) / nchan, ".1f"),
            _cell(middle("redis", s), ".1f") if variant.redis else "",
            _cell(middle("rate", s), ",.0f"),
            _cell(middle("p50", s), ".1f"),
            _cell(middle("p99", s), ".1f"),
            _cell(middle("memory", s), ".1f"),
            *(f"{middle(figure, s):,.0f}" for figure in COUNTS),
            _cell(middle("client_cpu", s), ".0%"),
        ]
        for variant, s in found.items()
    ]
    title = f"### {scenario.title}, {scenario.events} events: {scenario.deliveries:,} deliveries"
    return f"{title}\n\n{markdown(columns, rows)}"


def targets(samples: Samples) -> str:
    table = [
        [
            f"{scenario.title}, {target.words}",
            f"{measured:.1f}",
            f"{'≥' if target.cheaper else '≤'} {target.limit:g}",
            "yes" if target.kept(measured) else "NO",
        ]
        for target, scenario, measured in checked(samples)
    ]
    if not table:
        return ""
    return f"### Targets\n\n{markdown(['', 'measured', 'target', 'met'], table)}"


def targeted() -> list[str]:
    """Return the variants with targets."""
    return list(dict.fromkeys(["ours", *(p.than for p in TARGETS if p.than)]))


def checked(samples: Samples) -> Iterator[tuple[Target, Scenario, float]]:
    """Yield the measured value of each target."""
    for target in TARGETS:
        for scenario in _scenarios(samples):
            found = _found(scenario, samples)
            figures = {variant.name: middle(target.figure, s) for variant, s in found.items()}
            ours, other = figures.get("ours"), figures.get(target.than or "ours")
            if (
                scenario.subscribers in target.subscribers
                and ours is not None
                and other is not None
            ):
                yield target, scenario, _compared(target, ours, other)


def _compared(target: Target, ours: float, other: float) -> float:
    if not target.than:
        return ours
    return other / ours if target.cheaper else ours / other


def middle(figure: str, samples: Sequence[Delivery]) -> float:
    """Return the median; for errors, the maximum."""
    values = [getattr(sample, figure) for sample in samples]
    return float(max(values) if figure in COUNTS else median(values))


def _cell(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _scenarios(samples: Samples) -> list[Scenario]:
    return list(dict.fromkeys(scenario for _, scenario in samples))


def _found(scenario: Scenario, samples: Samples) -> dict[Realtime, Sequence[Delivery]]:
    return {variant: taken for (variant, tried), taken in samples.items() if tried == scenario}


def picture(samples: Samples) -> str:
    """Draw the CPU time, with the servers in the order of the tables."""
    scenarios = _scenarios(samples)
    drawn = [scenario for scenario in scenarios if scenario.subscribers in DRAWN] or scenarios
    few, many = _found(drawn[0], samples), _found(drawn[-1], samples)
    rows = [
        chart.Row(variant.label, (middle("cpu", s), middle("cpu", many[variant])), own=variant.ours)
        for variant, s in few.items()
        if not math.isnan(middle("cpu", s) + middle("cpu", many[variant]))
    ]
    title = "CPU microseconds of the server per delivery (less is better)"
    return chart.bars(title, (drawn[0].title, drawn[-1].title), rows, LONGEST)
