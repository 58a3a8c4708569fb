"""Compare uploads to the generated service with those to other servers; see README.md.

make bench-upload
"""

import argparse
import sys
from collections.abc import Sequence

import raw
import report
import side_by_side
import upload_report
from measure import GIB, MIB, Sample, summary
from servers import Tools
from side_by_side import say
from upload_measure import Big, Scenario, measure
from upload_servers import VARIANTS, Upload

SMALL = 16 << 10
SCENARIOS = [Scenario(count, chunk) for count in (1, 32) for chunk in (0, SMALL)]
#: Maximum memory of a load in MiB, by the number of uploads at once.
MEMORY_BARS = {1: 8, 32: 64}
PING_BAR = 50  # ms
#: The loads of the standard size, and its variants: those of the summary and similar ones.
STANDARD = SCENARIOS[:2]
STANDARD_VARIANTS = ["raw", "tus", "multipart", "discard", "form", "tuspyserver", "node", "nginx"]
#: MiB of the upload whose memory is measured; its pings are sent at the same time.
BIG = 2048


def main() -> None:
    options = parse()
    names = STANDARD_VARIANTS if options.standard else None
    chosen = side_by_side.choose(VARIANTS, options.only or names)
    size = options.size * MIB
    # A form is written twice, and each load is sent twice.
    with side_by_side.workshop(options, max(4 * size, options.big * MIB) + GIB) as tools:
        if options.bars:
            sys.exit(not check_bars(tools, [v for v in chosen if v.ours], size))
        sys.exit(not compare(tools, chosen, size, options))


def parse() -> argparse.Namespace:
    size = "MiB of one load, over all its uploads (512)"
    parser = side_by_side.options(__doc__, size, [variant.name for variant in VARIANTS])
    parser.add_argument("--bars", action="store_true", help="check the memory of 4 GiB uploads")
    parser.add_argument(
        "--big", type=int, default=BIG, help=f"MiB of an upload whose memory is measured ({BIG})"
    )
    options = parser.parse_args()
    if options.standard:
        options.size, options.within = 128, 60
    if options.smoke:
        options.size, options.rounds, options.big = 4, 1, 8
    options.size = options.size or (4096 if options.bars else 512)
    return options


def compare(
    tools: Tools, variants: Sequence[Upload], size: int, options: argparse.Namespace
) -> bool:
    """Measure all variants, and report the medians."""
    big = Big(1, 0, options.big)
    ours = [variant for variant in variants if variant.ours][: 1 if options.standard else None]
    cases = dict.fromkeys(STANDARD if options.standard else SCENARIOS, variants)
    if options.big:
        cases[big] = ours

    def measured(variant: Upload, scenario: Scenario) -> Sample:
        if isinstance(scenario, Big):
            return measure(tools, variant, scenario, scenario.size * MIB, "together")
        return measure(tools, variant, scenario, size)

    samples = side_by_side.gather(cases, options, measured, describe)
    if not samples:
        return False
    text = upload_report.page(tools, samples, options.size, options.rounds)
    made = ("upload", text, upload_report.picture(samples))
    side_by_side.write(options, tools, made, raw.results_of(samples))
    return {variant for variant, _ in samples} == set(variants)


def describe(scenario: Scenario, sample: Sample) -> str:
    return f"{sample.rate:.0f} MiB/s, {sample.cpu:.2f} CPU-s"


def check_bars(tools: Tools, variants: Sequence[Upload], size: int) -> bool:
    """Send large uploads of each kind, and compare memory and pings with the targets."""
    rows, kept = [], True
    for variant in variants:
        for scenario in SCENARIOS:
            sample = measure(tools, variant, scenario, size, pings="together")
            bar = MEMORY_BARS[scenario.uploads]
            ping = summary([sample]).ping
            good = sample.memory <= bar and ping < PING_BAR
            kept = kept and good
            figures = [f"{sample.memory:.1f} of {bar}", f"{ping:.1f} of {PING_BAR}"]
            rows.append([variant.label, scenario.title, *figures, "yes" if good else "NO"])
            say("; ".join(rows[-1]))
    columns = ["", f"{size / GIB:g} GiB as", "memory, MiB", "ping p99, ms", "kept"]
    sys.stdout.write(report.markdown(columns, rows) + "\n")
    return kept


if __name__ == "__main__":
    main()
