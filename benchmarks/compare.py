"""Compare the service of this work tree with that of an earlier commit; see README.md.

make bench-compare BASE=<commit>
"""

import argparse
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import download_measure
import overhead
import realtime_measure
import report
import upload_measure
from download_servers import VARIANTS as DOWNLOADS
from measure import GIB, MIB, MeasureError, Sample
from realtime_servers import VARIANTS as REALTIME
from servers import REPOSITORY, THEIRS, Tools, equip
from side_by_side import say, workplace
from upload_load import ROWS
from upload_servers import VARIANTS as UPLOADS
from upload_servers import Upload, start_ours

#: Fewer pairs would not distinguish a change from other load of the machine.
PAIRS = 7
#: A cost that increases by more is marked.
WORSE = 1.10

Measure = Callable[[Tools, bool], Sample]


@dataclass(frozen=True)
class Figure:
    """A measured value; lower costs are better."""

    unit: str
    of: Callable[[Sample], float]
    is_cost: bool = True


@dataclass(frozen=True)
class Case:
    """A load, optionally a small one as a test, and its results."""

    name: str
    measure: Measure
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Row:
    """A measured value of both services, in the order of the measurements."""

    name: str
    figure: Figure
    base: Sequence[float]
    now: Sequence[float]

    @property
    def ratio(self) -> float:
        return median(self.now) / median(self.base)

    @property
    def ratios(self) -> list[float]:
        """The ratios of the pairs; the state of the machine is the same for a pair."""
        return [now / base for base, now in zip(self.base, self.now, strict=True)]

    @property
    def mark(self) -> str:
        """Return a mark if both ratios are worse, or only one of them."""
        growths = [self.ratio, median(self.ratios)]
        if not self.figure.is_cost:
            growths = [1 / growth for growth in growths]
        return {0: "", 1: "worse?", 2: "WORSE"}[sum(growth > WORSE for growth in growths)]


def cpu(unit: str, share: float = 1) -> Figure:
    return Figure(f"CPU-{unit}", lambda sample: sample.cpu * share)


def rate(unit: str, share: float = 1) -> Figure:
    return Figure(f"{unit}/s", lambda sample: sample.rate * share, is_cost=False)


def upload(name: str) -> Case:
    """Upload 256 MiB in one upload."""
    (variant,) = (variant for variant in UPLOADS if variant.name == name)
    return Case(f"upload-{name}", partial(_upload, variant, 256), (cpu("s per GiB"), rate("MiB")))


def ingest(name: str, kind: str) -> Case:
    """Send 4 MiB of rows."""
    variant = Upload(name, name, start_ours, kind, "/ingest/readings", copies=0, ours=True)
    row = len(ROWS[kind])
    figures = cpu("µs per row", row / GIB * 1e6), rate("rows", MIB / row)
    return Case(f"ingest-{name}", partial(_upload, variant, 4), figures)


def _upload(variant: Upload, mib: int, tools: Tools, smoke: bool) -> Sample:
    scenario = upload_measure.Scenario(1, 0)
    size = (1 if smoke else mib) * MIB
    return upload_measure.measure(tools, variant, scenario, size, "none")


def download(name: str, scenario: download_measure.Scenario, *figures: Figure) -> Case:
    """Download 1 GiB, small files for 3 seconds, or a million rows."""
    ours = "rows" if scenario.kind == "rows" else "zero-copy"
    (variant,) = (variant for variant in DOWNLOADS if variant.name == ours)

    def measure(tools: Tools, smoke: bool) -> Sample:
        chosen, size = (scenario.smoke(), 8 * MIB) if smoke else (scenario, GIB)
        return download_measure.measure(tools, variant, chosen, size, pings=False)

    return Case(name, measure, figures)


def fan_out(subscribers: int, *figures: Figure) -> Case:
    """Publish until 40,000 events have been delivered."""

    def measure(tools: Tools, smoke: bool) -> Sample:
        scenario = realtime_measure.Scenario(subscribers, 2 if smoke else 40_000 // subscribers)
        sample = realtime_measure.measure(tools, REALTIME[0], scenario)
        if sample.missing or sample.cut:
            raise MeasureError(f"{sample.missing} deliveries missing, {sample.cut} streams cut")
        return sample

    return Case(f"fan-out-{subscribers}", measure, figures)


def small_requests(tools: Tools, smoke: bool) -> Sample:
    scenario = overhead.Scenario("request", 0.2 if smoke else 3)
    return overhead.measure(tools, overhead.VARIANTS[0], scenario)


CASES = [
    upload("raw"),
    upload("multipart"),
    upload("tus"),
    ingest("jsonl", "application/jsonl"),
    ingest("csv", "text/csv"),
    download("download", download_measure.Scenario("large", 1), cpu("s per GiB"), rate("MiB")),
    download(
        "small-files", download_measure.Scenario("small", 32, 3),
        cpu("µs per 4 KiB file"), rate("requests"),
    ),
    download(
        "export", download_measure.Scenario("rows", 1, 1_000_000), cpu("µs per row"), rate("rows")
    ),
    fan_out(100, cpu("µs per delivery")),
    fan_out(
        1000, cpu("µs per delivery"),
        Figure("KiB per idle subscriber", lambda sample: sample.memory),
    ),
    Case("overhead", small_requests, (cpu("µs per small GET"),)),
]  # fmt: skip


def main() -> None:
    options = parse()
    cases = [case for case in CASES if case.name in options.only]
    with workplace(options.directory, GIB if options.smoke else 4 * GIB) as (directory, kept):
        template = archived(options.base, directory / "template")
        sides = [
            equipped(directory / name, kept, source)
            for name, source in (("base", template), ("now", REPOSITORY))
        ]
        samples = gather(cases, sides, options.pairs, smoke=options.smoke)
        machine = report.machine(sides[1], ("fastapi", "uvicorn"), [])
    rows = list(compared(samples))
    sys.stdout.write(page(rows, options.base, options.pairs, machine))
    worse = any(row.mark == "WORSE" and row.figure.is_cost for row in rows)
    sys.exit(len(samples) < len(cases) or (options.bars and worse))


def parse() -> argparse.Namespace:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument(
        "--pairs", type=int, default=PAIRS, help=f"pairs per load (at least {PAIRS})"
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=names,
        help=f"some of {', '.join(names)}",
    )
    parser.add_argument("--smoke", action="store_true", help="test the benchmark with small loads")
    parser.add_argument("--bars", action="store_true", help="fail if a cost is worse")
    parser.add_argument("--directory", type=Path, help="directory of the files (build/benchmarks)")
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(names)}")
    if options.pairs < PAIRS:
        parser.error(f"--pairs: at least {PAIRS}")
    if options.smoke:
        options.pairs = 1
    return options


def archived(commit: str, directory: Path) -> Path:
    """Extract the files of a commit to a directory."""
    words = ["git", "archive", "--format=tar", commit]
    done = subprocess.run(words, cwd=REPOSITORY, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"{commit} is not a commit of this repository.")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return directory


def equipped(directory: Path, kept: Path, template: Path) -> Tools:
    directory.mkdir()
    # With the packages of the other benchmarks, so that all have one environment.
    return equip(directory, kept, template, THEIRS)


def gather(
    cases: Sequence[Case], sides: Sequence[Tools], pairs: int, *, smoke: bool
) -> dict[Case, tuple[list[Sample], ...]]:
    """Measure both sides in pairs, with alternating order.

    A load that fails on one side is skipped.
    """
    samples: dict[Case, tuple[list[Sample], ...]] = {case: ([], []) for case in cases}
    for number in range(pairs):
        for case in list(samples):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            try:
                for side in order:
                    samples[case][side].append(case.measure(sides[side], smoke))
            except MeasureError as error:
                say(f"{case.name} failed and is skipped: {('base', 'now')[side]}, {error}")
                del samples[case]
            else:
                say(f"{number + 1} of {pairs}, {case.name}: {_latest(case, samples[case])}")
    return samples


def _latest(case: Case, samples: Sequence[Sequence[Sample]]) -> str:
    base, now = (found[-1] for found in samples)
    return ", ".join(f"{f.of(base):.4g} -> {f.of(now):.4g} {f.unit}" for f in case.figures)


def compared(samples: Mapping[Case, Sequence[Sequence[Sample]]]) -> list[Row]:
    return [
        Row(case.name, figure, *([figure.of(sample) for sample in found] for found in sides))
        for case, sides in samples.items()
        for figure in case.figures
    ]


def page(rows: Sequence[Row], base: str, pairs: int, machine: str) -> str:
    columns = ["", "unit", base, "now", "ratio", "of the pairs", "half of them", ""]
    table = [
        [
            row.name,
            row.figure.unit,
            f"{median(row.base):.4g}",
            f"{median(row.now):.4g}",
            f"{row.ratio:.2f}",
            f"{median(row.ratios):.2f}",
            spread(row.ratios),
            row.mark,
        ]
        for row in rows
    ]
    return (
        f"# {base} and now, in {pairs} interleaved pairs\n\n"
        f"Medians, and now : {base}. {machine}.\n\n{report.markdown(columns, table)}\n"
    )


def spread(ratios: Sequence[float]) -> str:
    """Return the lower and upper quartiles of the ratios."""
    if len(ratios) < 2:
        return ""
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return f"{low:.2f} to {high:.2f}"


if __name__ == "__main__":
    main()
