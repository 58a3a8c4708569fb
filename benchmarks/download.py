# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "cookiecutter>=2.6",
#     # Those of the generated service:
#     "aiofiles>=24.1",
#     "backports.zstd>=1.0; python_version < '3.14'",
#     "fastapi>=0.165",
#     "filetype>=1.2",
#     "pydantic-settings>=2.12",
#     "python-multipart>=0.0.20",
#     "uvicorn[standard]>=0.54",
# ]
# ///
"""Measure downloads from our service and from others side by side; README.md says how and what.

uv run benchmarks/download.py
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import download_report
import side_by_side
from download_measure import WRK, Scenario, measure
from download_servers import VARIANTS, Download
from measure import GIB, MIB, Sample
from servers import Tools

SCENARIOS = [
    Scenario("large", 1),
    Scenario("large", 8),
    Scenario("slow", 1),
    Scenario("slow", 100),
    Scenario("small", 32),
    Scenario("rows", 1),
]
#: In a smaller file, much of it would find room in the buffers of the kernel; in MiB.
LEAST = 256


def main() -> None:
    options = parse()
    chosen = side_by_side.choose(VARIANTS, options.only)
    size = options.size * MIB
    # The file of an eighth is there twice while it is being stored.
    with side_by_side.workshop(options, size // 4 + GIB) as tools:
        samples = compare(tools, chosen, size, options.rounds)
    if not samples:
        sys.exit(1)
    text = download_report.page(samples, options.size, options.rounds)
    sys.stdout.write(text)
    if not options.only:
        side_by_side.write("download", text, download_report.picture(samples))
    complete = {variant for variant, _ in samples} == set(chosen)
    kept = all(promise.kept(found) for promise, _, found in download_report.checked(samples))
    sys.exit(not (complete and (kept or not options.bars)))


def parse() -> argparse.Namespace:
    size = f"MiB of one load, over all its downloads (2048; at least {LEAST})"
    parser = side_by_side.options(__doc__, size, [variant.name for variant in VARIANTS])
    parser.set_defaults(size=2048)
    parser.add_argument("--bars", action="store_true", help="only what something is promised of")
    options = parser.parse_args()
    if options.size < LEAST:
        parser.error(f"--size: at least {LEAST}")
    if options.bars:
        options.only = options.only or download_report.promised()
    return options


def compare(
    tools: Tools, variants: Sequence[Download], size: int, rounds: int
) -> dict[tuple[Download, Scenario], list[Sample]]:
    """Measure all variants in all that they can be asked for."""
    cases = {s: [v for v in variants if s.kind in v.kinds] for s in SCENARIOS}
    if not WRK:
        side_by_side.say("Small files are left out: there is no wrk here.")
        cases = {scenario: cases[scenario] for scenario in cases if scenario.kind != "small"}
    return side_by_side.gather(cases, rounds, partial(measure, tools, size=size), describe)


def describe(scenario: Scenario, sample: Sample) -> str:
    match scenario.kind:
        case "large":
            return f"{sample.rate:.0f} MiB/s, {sample.cpu:.2f} CPU-s per GiB"
        case "slow":
            return f"{sample.memory:.3f} MiB each"
        case "small":
            return f"{sample.rate:.0f} requests/s, {sample.cpu:.0f} CPU-µs each"
        case _:
            return f"{sample.rate:.0f} rows/s, {sample.cpu:.2f} CPU-µs each"


if __name__ == "__main__":
    main()
