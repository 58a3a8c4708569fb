"""Options of the benchmarks, the order of the loads, and their output."""

import argparse
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import raw
import report
from measure import GIB, MeasureError, Sample
from raw import S, V
from servers import HERE, REPOSITORY, THEIRS, Tools, equip

RESULTS = HERE / "results"
#: The exit code if a program is missing that the whole benchmark needs.
LEFT_OUT = os.EX_UNAVAILABLE
#: Reasons why servers are missing in the report. A process runs one benchmark.
NOT_MEASURED: dict[str, str] = {}


def options(description: str | None, size: str, names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--size", type=int, help=size)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each load (3)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help=f"some of {', '.join(names)}"
    )
    parser.add_argument("--smoke", action="store_true", help="test the benchmark with small loads")
    parser.add_argument("--standard", action="store_true", help="the size of `make bench`")
    parser.add_argument(
        "--within", type=float, default=math.inf, help="seconds after which no round begins"
    )
    parser.add_argument("--directory", type=Path, help="directory of the files (build/benchmarks)")
    parser.add_argument("--results", type=Path, help="directory of the report, also with --only")
    return parser


def choose(variants: Sequence[V], names: Sequence[str] | None) -> list[V]:
    known = {variant.name: variant for variant in variants}
    if unknown := set(names or ()) - known.keys():
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = [known[name] for name in names or known]
    for variant in chosen:
        if not variant.available:
            NOT_MEASURED[variant.label] = f"{variant.program} is not installed"
            say(f"{variant.label} is skipped: {variant.program} is not installed.")
    return [variant for variant in chosen if variant.available]


def leave_out(reason: str) -> NoReturn:
    """End the benchmark, and report why to the runner of all benchmarks."""
    sys.stdout.write(f"{reason}\n")
    sys.exit(LEFT_OUT)


@contextmanager
def workshop(chosen: argparse.Namespace, space: int) -> Generator[Tools]:
    """Generate the service and a directory for all files; delete them afterwards."""
    with workplace(chosen.directory, space) as (directory, kept):
        yield equip(directory, kept, beside=THEIRS)


@contextmanager
def workplace(chosen: Path | None, space: int) -> Generator[tuple[Path, Path]]:
    """Create a temporary directory with `space` free bytes in a permanent one."""
    # On SIGTERM, stop the server and delete the files as well.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    build = (chosen or REPOSITORY / "build" / "benchmarks").resolve()
    build.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(build).free
    if free < space:
        sys.exit(f"{build} has {free / GIB:.1f} GiB free; this needs {space / GIB:.1f}.")
    with tempfile.TemporaryDirectory(dir=build) as directory:
        yield Path(directory), build


def rounds(chosen: argparse.Namespace) -> Iterator[int]:
    """Count the rounds; stop before one that would end after `--within` seconds.

    Then `--rounds` is set to the rounds that were measured, for the report.
    """
    began = time.monotonic()
    for number in range(chosen.rounds):
        spent = time.monotonic() - began
        if number and spent + spent / number > chosen.within:
            say(f"{number} rounds have taken {spent:.0f} s: these are all.")
            chosen.rounds = number
            return
        yield number


def gather(
    cases: Mapping[S, Sequence[V]],
    chosen: argparse.Namespace,
    measure: Callable[[V, S], Sample],
    describe: Callable[[S, Sample], str],
) -> dict[tuple[V, S], list[Sample]]:
    """Measure all variants in turn, several times; skip those that fail.

    The order changes, so that other load of the machine affects all variants alike.
    """
    samples: dict[tuple[V, S], list[Sample]] = {
        (variant, scenario): [] for scenario, variants in cases.items() for variant in variants
    }
    failed: set[V] = set()
    planned = chosen.rounds
    for number in rounds(chosen):
        for scenario, variants in cases.items():
            first = number * len(variants) // planned
            for variant in [*variants[first:], *variants[:first]]:
                if variant in failed:
                    continue
                try:
                    sample = measure(variant, scenario)
                except MeasureError as error:
                    failed.add(variant)
                    NOT_MEASURED[variant.label] = str(error).partition("\n")[0]
                    say(f"{variant.label} failed and is skipped: {error}")
                    continue
                samples[variant, scenario].append(sample)
                say(f"{variant.label}; {scenario.title}: {describe(scenario, sample)}")
    return {key: found for key, found in samples.items() if key[0] not in failed}


def write(
    chosen: argparse.Namespace,
    tools: Tools,
    report_of: tuple[str, str, str],
    results: Sequence[raw.Record],
    *,
    whole: bool = True,
) -> None:
    """Print a report: its name, text and chart.

    It is also written, with the results as JSON, if it is complete or `--results` is given.
    """
    name, text, picture = report_of
    if NOT_MEASURED:
        table = report.markdown(["", "reason"], NOT_MEASURED.items())
        text += f"\n### Not measured\n\n{table}\n"
    sys.stdout.write(text)
    whole = whole and not (chosen.only or chosen.smoke)
    directory: Path | None = chosen.results or (RESULTS if whole else None)
    if directory is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.md").write_text(text, "utf-8")
    (directory / f"{name}.json").write_text(
        raw.document(tools, name, results, NOT_MEASURED), "utf-8"
    )
    if picture:
        (directory / f"{name}.svg").write_text(picture, "utf-8")


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
