"""What was measured of events, as Markdown and as a chart, and what is promised."""

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

#: Of how many subscribers the chart is, and where its bars are cut: the others would be invisible.
DRAWN, LONGEST = (1_000, 5_000), 150.0
#: What should not happen.
COUNTS = ("refused", "cut", "missing")
#: Before 3.12 a task does not start without a turn of the event loop.
CPU_LIMIT = 26 if sys.version_info >= (3, 12) else 34


@dataclass(frozen=True)
class Promise:
    """What ours may cost; `than` makes it a ratio, `cheaper` the other way round: at least that."""

    words: str
    figure: str
    limit: float
    subscribers: tuple[int, ...] = DRAWN
    than: str = ""
    cheaper: bool = False

    def kept(self, measured: float) -> bool:
        return measured >= self.limit if self.cheaper else measured <= self.limit


PROMISES = [
    Promise("CPU microseconds per delivery", "cpu", CPU_LIMIT),
    Promise("CPU time, x nchan", "cpu", 2.5, than="nchan"),
    Promise("CPU time of FastAPI's own SSE, x ours", "cpu", 14, than="native", cheaper=True),
    Promise("KiB per idle connection", "memory", 20, (1_000, 5_000, 10_000)),
    Promise("deliveries missing", "missing", 0, (10_000,)),
    Promise("streams cut", "cut", 0, (10_000,)),
]


def page(tools: Tools, samples: Samples, rounds: int) -> str:
    """Return one table per number of subscribers, then what is promised."""
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
        promises(samples),
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


def promises(samples: Samples) -> str:
    table = [
        [
            f"{scenario.title}, {promise.words}",
            f"{measured:.1f}",
            f"{'≥' if promise.cheaper else '≤'} {promise.limit:g}",
            "yes" if promise.kept(measured) else "NO",
        ]
        for promise, scenario, measured in checked(samples)
    ]
    if not table:
        return ""
    return f"### What is promised\n\n{markdown(['', 'measured', 'promised', 'kept'], table)}"


def promised() -> list[str]:
    """Return the variants that the promises are about."""
    return list(dict.fromkeys(["ours", *(p.than for p in PROMISES if p.than)]))


def checked(samples: Samples) -> Iterator[tuple[Promise, Scenario, float]]:
    """Yield what was measured of each promise."""
    for promise in PROMISES:
        for scenario in _scenarios(samples):
            found = _found(scenario, samples)
            figures = {variant.name: middle(promise.figure, s) for variant, s in found.items()}
            ours, other = figures.get("ours"), figures.get(promise.than or "ours")
            if (
                scenario.subscribers in promise.subscribers
                and ours is not None
                and other is not None
            ):
                yield promise, scenario, _compared(promise, ours, other)


def _compared(promise: Promise, ours: float, other: float) -> float:
    if not promise.than:
        return ours
    return other / ours if promise.cheaper else ours / other


def middle(figure: str, samples: Sequence[Delivery]) -> float:
    """Return the median; of what should not happen, the most."""
    values = [getattr(sample, figure) for sample in samples]
    return float(max(values) if figure in COUNTS else median(values))


def _cell(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _scenarios(samples: Samples) -> list[Scenario]:
    return list(dict.fromkeys(scenario for _, scenario in samples))


def _found(scenario: Scenario, samples: Samples) -> dict[Realtime, Sequence[Delivery]]:
    return {variant: taken for (variant, tried), taken in samples.items() if tried == scenario}


def picture(samples: Samples) -> str:
    """Draw the CPU time, the servers in the order of the tables."""
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
