# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "cookiecutter>=2.6",
#     "tuspyserver>=4.4",
#     # Those of the generated service:
#     "aiofiles>=24.1",
#     "fastapi>=0.165",
#     "filetype>=1.2",
#     "pydantic-settings>=2.12",
#     "python-multipart>=0.0.20",
#     "uvicorn[standard]>=0.54",
# ]
# ///
"""Measure uploads to our service and to others side by side; README.md says how and what.

uv run benchmarks/upload.py
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import report
from measure import GIB, MIB, MeasureError, Sample, Scenario, measure
from servers import HERE, REPOSITORY, VARIANTS, Tools, Variant

SMALL = 16 << 10
SCENARIOS = [Scenario(count, chunk) for count in (1, 32) for chunk in (0, SMALL)]
#: What a load may take of the memory, by the uploads at once; in MiB.
MEMORY_BARS = {1: 8, 32: 64}
PING_BAR = 50  # ms
RESULTS = HERE / "results"


def main() -> None:
    # Ended from outside, it stops its server and removes its files as well.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    options = parse()
    build = (options.directory or REPOSITORY / "build" / "benchmarks").resolve()
    build.mkdir(parents=True, exist_ok=True)
    chosen = choose(options.only)
    size = options.size or (4096 if options.bars else 512)
    need_space(build, size * MIB)
    with tempfile.TemporaryDirectory(dir=build) as directory:
        tools = Tools(Path(directory), build, options.service)
        if options.bars:
            sys.exit(not check_bars(tools, [v for v in chosen if v.ours], size * MIB))
        sys.exit(not compare(tools, chosen, size * MIB, options.rounds, write=not options.only))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    names = ", ".join(variant.name for variant in VARIANTS)
    parser.add_argument("--size", type=int, help="MiB of one load, over all its uploads (512)")
    parser.add_argument("--rounds", type=int, default=3, help="loads of each kind (3)")
    parser.add_argument("--only", type=lambda text: text.split(","), help=f"some of {names}")
    parser.add_argument("--bars", action="store_true", help="check the memory of 4 GiB uploads")
    parser.add_argument("--service", type=Path, help="a generated service; else one is generated")
    parser.add_argument("--directory", type=Path, help="where the files go (build/benchmarks)")
    return parser.parse_args()


def choose(names: Sequence[str] | None) -> list[Variant]:
    known = {variant.name: variant for variant in VARIANTS}
    if unknown := set(names or ()) - known.keys():
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = [known[name] for name in names or known]
    for variant in chosen:
        if not variant.available:
            say(f"{variant.label} is left out: there is no {variant.program} here.")
    return [variant for variant in chosen if variant.available]


def need_space(directory: Path, size: int) -> None:
    """Leave when the disk is too small: a form is stored twice, and each load is sent twice."""
    needed, free = 4 * size + GIB, shutil.disk_usage(directory).free
    if free < needed:
        sys.exit(f"{directory} has {free / GIB:.1f} GiB free; this needs {needed / GIB:.1f}.")


def compare(
    tools: Tools, variants: Sequence[Variant], size: int, rounds: int, *, write: bool
) -> bool:
    """Measure all variants in turn, several times; print the medians, and write them down."""
    samples: dict[tuple[Variant, Scenario], list[Sample]] = {
        (variant, scenario): [] for scenario in SCENARIOS for variant in variants
    }
    failed: set[Variant] = set()
    for variant, scenario in turns(variants, rounds):
        if variant in failed:
            continue
        try:
            sample = measure(tools, variant, scenario, size)
        except MeasureError as error:
            failed.add(variant)
            say(f"{variant.label} failed and is left out: {error}")
            continue
        samples[variant, scenario].append(sample)
        say(f"{variant.label}; {scenario.title}: {sample.rate:.0f} MiB/s, {sample.cpu:.2f} CPU-s")
    if failed.issuperset(variants):
        return False
    complete = {key: found for key, found in samples.items() if key[0] not in failed}
    text = report.page(tools, complete, size // MIB, rounds)
    sys.stdout.write(text)
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "upload.md").write_text(text, "utf-8")
        (RESULTS / "upload.svg").write_text(report.picture(complete), "utf-8")
    return not failed


def turns(variants: Sequence[Variant], rounds: int) -> Iterator[tuple[Variant, Scenario]]:
    """Interleave: what else the machine does then meets all of them, and none is always first."""
    for number in range(rounds):
        for scenario in SCENARIOS:
            first = number * len(variants) // rounds
            for variant in [*variants[first:], *variants[:first]]:
                yield variant, scenario


def check_bars(tools: Tools, variants: Sequence[Variant], size: int) -> bool:
    """Send large uploads of each kind, and compare memory and pings with what is promised."""
    rows, kept = [], True
    for variant in variants:
        for scenario in SCENARIOS:
            sample = measure(tools, variant, scenario, size, together=True)
            bar = MEMORY_BARS[scenario.uploads]
            ping = report.summary([sample]).ping
            good = sample.memory <= bar and ping < PING_BAR
            kept = kept and good
            figures = [f"{sample.memory:.1f} of {bar}", f"{ping:.1f} of {PING_BAR}"]
            rows.append([variant.label, scenario.title, *figures, "yes" if good else "NO"])
            say("; ".join(rows[-1]))
    columns = ["", f"{size / GIB:g} GiB as", "memory, MiB", "ping p99, ms", "kept"]
    sys.stdout.write(report.markdown(columns, rows) + "\n")
    return kept


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


if __name__ == "__main__":
    main()
