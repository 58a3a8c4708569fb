"""What was measured, as Markdown."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import chart
from measure import Sample, Scenario
from servers import VARIANTS, Tools, Variant

Samples = Mapping[tuple[Variant, Scenario], Sequence[Sample]]

#: Whom each way of ours is compared with: the like of it.
PAIRS = [
    ("raw", "nginx"), ("raw", "nginx-1m"), ("raw", "discard"), ("raw", "chunks"), ("raw", "node"),
    ("tus", "node"), ("tus", "tuspyserver"), ("multipart", "form"),
]  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """The medians of all rounds, and the pings of all of them together."""

    rate: float
    cpu: float
    client: float
    memory: float
    ping: float
    spread: float
    """How far the CPU seconds of the rounds lie apart, as a share of the median."""


def summary(samples: Sequence[Sample]) -> Summary:
    cpus = [sample.cpu for sample in samples]
    pings = [seconds for sample in samples for seconds in sample.pings]
    return Summary(
        rate=median(sample.rate for sample in samples),
        cpu=median(cpus),
        client=median(sample.client_cpu for sample in samples),
        memory=median(sample.memory for sample in samples),
        ping=quantiles(pings, n=100, method="inclusive")[-1] * 1000 if len(pings) > 1 else 0.0,
        spread=(max(cpus) - min(cpus)) / median(cpus) if median(cpus) else 0.0,
    )


def page(tools: Tools, samples: Samples, size: int, rounds: int) -> str:
    """Return one table per scenario, then the ratios."""
    scenarios = list(dict.fromkeys(scenario for _, scenario in samples))
    sections = [
        "# Uploads, side by side",
        f"{size} MiB per load, {rounds} rounds of which the median is shown. "
        f"{machine(tools, {variant.program for variant, _ in samples})}.",
        "![CPU seconds per GiB](upload.svg)",
        *(scenario_table(scenario, samples) for scenario in scenarios),
        ratio_table("CPU seconds per GiB, ours : theirs", "cpu", scenarios, samples),
        ratio_table("MiB/s, ours : theirs", "rate", scenarios, samples),
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


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(tools: Tools, used: set[str]) -> str:
    """Say on what this was measured; other figures are to be expected elsewhere."""
    model = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    programs = [f"Python {platform.python_version()}"]
    programs += [f"{name} {version(name)}" for name in ("fastapi", "uvicorn", "tuspyserver")]
    if "npm" in used:
        programs.append(f"Node {_output('node', '--version').lstrip('v')}")
        manifest = tools.node / "node_modules" / "@tus" / "server" / "package.json"
        programs.append(f"@tus/server {json.loads(manifest.read_text())['version']}")
    if "nginx" in used:
        programs.append(f"nginx {_output('nginx', '-v').rpartition('/')[2]}")
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}; " + ", ".join(programs)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).strip()


def picture(samples: Samples) -> str:
    """Draw the CPU seconds of one upload, the servers in the order of the tables."""
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
