"""The results of uploads as Markdown and as a chart."""

import json
from collections.abc import Mapping, Sequence

import chart
import report
from measure import Sample, summary
from report import markdown
from servers import Tools
from upload_measure import Big, Scenario
from upload_servers import VARIANTS, Upload, node

Samples = Mapping[tuple[Upload, Scenario], Sequence[Sample]]

#: Comparable variants for each variant of the service.
PAIRS = [
    ("raw", "nginx"), ("raw", "nginx-1m"), ("raw", "discard"), ("raw", "chunks"), ("raw", "node"),
    ("tus", "node"), ("tus", "tuspyserver"), ("multipart", "form"),
]  # fmt: skip


def page(tools: Tools, samples: Samples, size: int, rounds: int) -> str:
    """Return one table per scenario, then the ratios."""
    scenarios = list(dict.fromkeys(scenario for _, scenario in samples))
    compared = [scenario for scenario in scenarios if not isinstance(scenario, Big)]
    sections = [
        "# Uploads, side by side",
        f"{size} MiB per load, {rounds} rounds of which the median is shown. "
        f"{_machine(tools, {variant.program for variant, _ in samples})}.",
        "![CPU seconds per GiB](upload.svg)",
        *(scenario_table(scenario, samples) for scenario in scenarios),
        ratio_table("CPU seconds per GiB, ours : theirs", "cpu", compared, samples),
        ratio_table("MiB/s, ours : theirs", "rate", compared, samples),
    ]
    return "\n\n".join(sections) + "\n"


def scenario_table(scenario: Scenario, samples: Samples) -> str:
    columns = [
        "",
        "MiB/s",
        "CPU-s/GiB",
        "±",
        "memory, MiB",
        "ping p99, ms",
        "client busy",
    ]
    rows = []
    for (variant, tried), found in samples.items():
        if tried == scenario:
            s = summary(found)
            cells = [
                f"{s.rate:.0f}",
                f"{s.cpu:.2f}",
                f"{s.spread / 2:.0%}",
                f"{s.memory:.1f}",
            ]
            rows.append([variant.label, *cells, f"{s.ping:.1f}", f"{s.client:.0%}"])
    return f"### {scenario.title}\n\n{markdown(columns, rows)}"


def ratio_table(title: str, figure: str, scenarios: Sequence[Scenario], samples: Samples) -> str:
    values = {
        (variant.name, scenario): getattr(summary(found), figure)
        for (variant, scenario), found in samples.items()
    }
    labels = {variant.name: variant.label for variant in VARIANTS}
    rows = []
    for ours, theirs in PAIRS:
        pairs = [(values.get((ours, s)), values.get((theirs, s))) for s in scenarios]
        if any(a and b for a, b in pairs):
            cells = [f"{a / b:.2f}" if a and b else "" for a, b in pairs]
            rows.append([f"{labels[ours]} : {labels[theirs]}", *cells])
    return f"### {title}\n\n{markdown(['', *(s.short for s in scenarios)], rows)}"


def _machine(tools: Tools, used: set[str]) -> str:
    programs = []
    if "npm" in used:
        programs.append(f"Node {report.output('node', '--version').lstrip('v')}")
        manifest = node(tools) / "node_modules" / "@tus" / "server" / "package.json"
        programs.append(f"@tus/server {json.loads(manifest.read_text())['version']}")
    if "nginx" in used:
        programs.append(report.nginx_version())
    return report.machine(tools, ("fastapi", "uvicorn", "tuspyserver"), programs)


def picture(samples: Samples) -> str:
    """Draw the CPU seconds of one upload, with the servers in the order of the tables."""
    large, small = Scenario(1, 0), Scenario(1, 16 << 10)
    rows = [
        chart.Row(
            variant.label,
            (summary(found).cpu, summary(samples[variant, small]).cpu),
            own=variant.ours,
        )
        for (variant, scenario), found in samples.items()
        if scenario == large and (variant, small) in samples
    ]
    title = "CPU seconds of the server per GiB uploaded (less is better)"
    return chart.bars(title, ("large network chunks", "16 KiB network chunks"), rows)
