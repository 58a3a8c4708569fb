"""Compare downloads from the generated service with those from other servers; see README.md.

make bench-download
"""

import argparse
import sys
from functools import partial

import download_report
import raw
import side_by_side
from download_measure import Scenario, measure
from download_servers import VARIANTS
from measure import GIB, MIB, Sample

SCENARIOS = [
    Scenario("large", 1),
    Scenario("large", 8),
    Scenario("slow", 1, 3),
    Scenario("slow", 100, 3),
    Scenario("small", 32, 5),
    Scenario("rows", 1, 1_000_000),
]
#: The loads of the standard size, and its variants: those of the summary and similar ones.
STANDARD = [Scenario("large", 1), Scenario("small", 32, 2), Scenario("rows", 1, 200_000)]
STANDARD_VARIANTS = [
    "zero-copy", "page-cache", "fileresponse", "stream-64k", "nginx", "caddy", "rows", "yield",
]  # fmt: skip
#: Minimum size in MiB; the buffers of the kernel would hold much of a smaller file.
LEAST = 256


def main() -> None:
    options = parse()
    names = STANDARD_VARIANTS if options.standard else None
    chosen = side_by_side.choose(VARIANTS, options.only or names)
    size = options.size * MIB
    # The file of an eighth exists twice while it is being stored.
    with side_by_side.workshop(options, size // 4 + GIB) as tools:
        asked = STANDARD if options.standard else SCENARIOS
        asked = [scenario.smoke() for scenario in asked] if options.smoke else asked
        cases = {s: [v for v in chosen if s.kind in v.kinds] for s in asked}
        measured = partial(measure, tools, size=size)
        samples = side_by_side.gather(cases, options, measured, describe)
        if not samples:
            sys.exit(1)
        text = download_report.page(tools, samples, options.size, options.rounds)
    made = ("download", text, download_report.picture(samples))
    side_by_side.write(options, tools, made, raw.results_of(samples))
    complete = {variant for variant, _ in samples} == set(chosen)
    kept = all(target.kept(found) for target, _, found in download_report.checked(samples))
    sys.exit(not (complete and (kept or not options.bars)))


def parse() -> argparse.Namespace:
    size = f"MiB of one load, over all its downloads (2048; at least {LEAST})"
    parser = side_by_side.options(__doc__, size, [variant.name for variant in VARIANTS])
    parser.set_defaults(size=2048)
    parser.add_argument("--bars", action="store_true", help="measure only the loads with a target")
    options = parser.parse_args()
    if options.size < LEAST:
        parser.error(f"--size: at least {LEAST}")
    if options.standard:
        options.size, options.within = 512, 65
    if options.smoke:
        options.size, options.rounds = 8, 1
    if options.bars:
        options.only = options.only or download_report.targeted()
    return options


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
