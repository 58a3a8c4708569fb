"""Options of the benchmarks, the order of the loads, and their output."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from measure import GIB, MeasureError, Sample
from servers import HERE, REPOSITORY, THEIRS, Tools, Variant, equip

RESULTS = HERE / "results"


class Scenario(Protocol):
    """A load for a server."""

    @property
    def title(self) -> str: ...


V = TypeVar("V", bound=Variant)
S = TypeVar("S", bound=Scenario)


def options(description: str | None, size: str, names: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--size", type=int, help=size)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each load (3)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help=f"some of {', '.join(names)}"
    )
    parser.add_argument("--smoke", action="store_true", help="test the benchmark with small loads")
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
            say(f"{variant.label} is skipped: {variant.program} is not installed.")
    return [variant for variant in chosen if variant.available]


@contextmanager
def workshop(chosen: argparse.Namespace, space: int, *more: str) -> Generator[Tools]:
    """Generate the service and a directory for all files; delete them afterwards.

    `more` are further requirements of the environment.
    """
    with workplace(chosen.directory, space) as (directory, kept):
        yield equip(directory, kept, beside=[*THEIRS, *more])


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


def gather(
    cases: Mapping[S, Sequence[V]],
    rounds: int,
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
    for number in range(rounds):
        for scenario, variants in cases.items():
            first = number * len(variants) // rounds
            for variant in [*variants[first:], *variants[:first]]:
                if variant in failed:
                    continue
                try:
                    sample = measure(variant, scenario)
                except MeasureError as error:
                    failed.add(variant)
                    say(f"{variant.label} failed and is skipped: {error}")
                    continue
                samples[variant, scenario].append(sample)
                say(f"{variant.label}; {scenario.title}: {describe(scenario, sample)}")
    return {key: found for key, found in samples.items() if key[0] not in failed}


def write(
    chosen: argparse.Namespace, name: str, text: str, picture: str, *, whole: bool = True
) -> None:
    """Print a report; write it with its chart if it is complete or `--results` is given."""
    sys.stdout.write(text)
    whole = whole and not (chosen.only or chosen.smoke)
    directory: Path | None = chosen.results or (RESULTS if whole else None)
    if directory is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.md").write_text(text, "utf-8")
    if picture:
        (directory / f"{name}.svg").write_text(picture, "utf-8")


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
