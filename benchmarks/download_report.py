"""The results of downloads as Markdown and as a chart, and the targets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import chart
import report
from download_measure import Scenario
from download_servers import SMALL, Download
from measure import Sample, Summary, summary
from report import markdown
from servers import Tools

Samples = Mapping[tuple[Download, Scenario], Sequence[Sample]]

#: Longer bars of the chart are cut, so that the others stay visible.
LONGEST = 4.0


@dataclass(frozen=True)
class Target:
    """A limit for one variant, or for its ratio to `than`; a lower limit with `at_least`."""

    words: str
    kind: str
    ours: str
    figure: str
    limit: float
    clients: int = 0
    """At once; 0 for any number."""
    than: str = ""
    at_least: bool = False

    def covers(self, scenario: Scenario) -> bool:
        return self.kind == scenario.kind and self.clients in (0, scenario.count)

    def kept(self, measured: float) -> bool:
        return measured >= self.limit if self.at_least else measured <= self.limit


TARGETS = [
    Target("zero-copy: CPU seconds, x nginx", "large", "zero-copy", "cpu", 2.0, than="nginx"),
    Target("page cache: CPU seconds per GiB", "large", "page-cache", "cpu", 0.75),
    Target("zero-copy: ping p99, ms", "large", "zero-copy", "ping", 50, clients=8),
    Target("page cache: ping p99, ms", "large", "page-cache", "ping", 50, clients=8),
    Target("aiofiles: ping p99, ms", "large", "aiofiles", "ping", 50, clients=8),
    Target("zero-copy: MiB each", "slow", "zero-copy", "memory", 0.1, clients=100),
    Target("requests/s, x FileResponse in our service", "small", "zero-copy", "rate", 4,
            than="within", at_least=True),
    Target("CPU microseconds per row", "rows", "rows", "cpu", 10),
]  # fmt: skip


def page(tools: Tools, samples: Samples, size: int, rounds: int) -> str:
    """Return one section per kind of load, then the targets."""
    used = {variant.name for variant, _ in samples}
    programs = [report.nginx_version()] if "nginx" in used else []
    if "caddy" in used:
        programs.append(f"Caddy {report.output('caddy', 'version').split()[0].lstrip('v')}")
    by_kind = [
        *(large(scenario, samples) for scenario in _scenarios(samples, "large")),
        slow(samples),
        *(small(scenario, samples) for scenario in _scenarios(samples, "small")),
        *(rows(scenario, samples) for scenario in _scenarios(samples, "rows")),
    ]
    sections = [
        "# Downloads, side by side",
        f"{size} MiB per load, {rounds} rounds of which the median is shown. "
        f"{report.machine(tools, ('fastapi', 'uvicorn'), programs)}.",
        "![CPU seconds per GiB](download.svg)",
        *by_kind,
        targets(samples),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def large(scenario: Scenario, samples: Samples) -> str:
    columns = [
        "", "MiB/s", "CPU-s/GiB", "±", "x nginx", "memory, MiB", "ping p99, ms", "client busy",
    ]  # fmt: skip
    found = _found(scenario, samples)
    nginx = next((s.cpu for variant, s in found.items() if variant.name == "nginx"), 0.0)
    table = [
        [
            variant.label,
            f"{s.rate:.0f}",
            f"{s.cpu:.2f}",
            f"{s.spread / 2:.0%}",
            f"{s.cpu / nginx:.1f}" if nginx else "",
            f"{s.memory:.1f}",
            f"{s.ping:.1f}",
            f"{s.client:.0%}",
        ]
        for variant, s in found.items()
    ]
    return f"### {scenario.title}, from the page cache\n\n{markdown(columns, table)}"


def slow(samples: Samples) -> str:
    scenarios = _scenarios(samples, "slow")
    if not scenarios:
        return ""
    found = [_found(scenario, samples) for scenario in scenarios]
    table = [
        [variant.label, *(f"{by_variant[variant].memory:.2f}" for by_variant in found)]
        for variant in found[0]
    ]
    columns = ["", *(scenario.title for scenario in scenarios)]
    return f"### Memory per slow client, MiB\n\n{markdown(columns, table)}"


def small(scenario: Scenario, samples: Samples) -> str:
    found = _found(scenario, samples)
    nginx = next((s.cpu for variant, s in found.items() if variant.name == "nginx"), 0.0)
    table = [
        [
            variant.label,
            f"{s.rate:.0f}",
            f"{s.cpu:.0f}",
            f"{s.spread / 2:.0%}",
            f"{s.cpu / nginx:.1f}" if nginx else "",
            f"{s.client:.0%}",
        ]
        for variant, s in found.items()
    ]
    columns = ["", "requests/s", "CPU-µs each", "±", "x nginx", "client busy"]
    title = f"### {scenario.files} files of {SMALL >> 10} KiB, over {scenario.count} connections"
    return f"{title}, for {scenario.amount:g} s\n\n{markdown(columns, table)}"


def rows(scenario: Scenario, samples: Samples) -> str:
    table = [
        [
            variant.label,
            f"{s.rate:.0f}",
            f"{s.cpu:.1f}",
            f"{s.spread / 2:.0%}",
            f"{s.client:.0%}",
        ]
        for variant, s in _found(scenario, samples).items()
    ]
    columns = ["", "rows/s", "CPU-µs each", "±", "client busy"]
    return f"### JSON Lines of a model with five fields\n\n{markdown(columns, table)}"


def targets(samples: Samples) -> str:
    table = [
        [
            f"{scenario.title}, {target.words}",
            f"{measured:.2f}",
            f"{'≥' if target.at_least else '≤'} {target.limit:g}",
            "yes" if target.kept(measured) else "NO",
        ]
        for target, scenario, measured in checked(samples)
    ]
    if not table:
        return ""
    return f"### Targets\n\n{markdown(['', 'measured', 'target', 'met'], table)}"


def targeted() -> list[str]:
    """Return the variants with targets."""
    names = [name for target in TARGETS for name in (target.ours, target.than) if name]
    return list(dict.fromkeys(names))


def checked(samples: Samples) -> Iterator[tuple[Target, Scenario, float]]:
    """Yield the measured value of each target."""
    for target in TARGETS:
        for scenario in filter(target.covers, _scenarios(samples, target.kind)):
            found = _found(scenario, samples)
            figures = {v.name: getattr(s, target.figure) for v, s in found.items()}
            measured, other = figures.get(target.ours), figures.get(target.than or target.ours)
            if measured is not None and other:
                yield target, scenario, measured / other if target.than else measured


def _scenarios(samples: Samples, kind: str) -> list[Scenario]:
    found = dict.fromkeys(scenario for _, scenario in samples)
    return [scenario for scenario in found if scenario.kind == kind]


def _found(scenario: Scenario, samples: Samples) -> dict[Download, Summary]:
    return {
        variant: summary(taken) for (variant, tried), taken in samples.items() if tried == scenario
    }


def picture(samples: Samples) -> str:
    """Draw the CPU seconds, with the servers in the order of the tables; None without files."""
    found = [_found(scenario, samples) for scenario in _scenarios(samples, "large")]
    if not found:
        return ""
    one, many = found[0], found[-1]
    drawn = [
        chart.Row(variant.label, (s.cpu, many[variant].cpu), own=variant.ours)
        for variant, s in one.items()
    ]
    title = "CPU seconds of the server per GiB downloaded (less is better)"
    return chart.bars(title, ("1 download", "8 downloads at once"), drawn, LONGEST)
