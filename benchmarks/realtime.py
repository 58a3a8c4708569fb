"""Compare events from the generated service with those from other servers; see README.md.

make bench-realtime
"""

import argparse
import resource
import sys
from collections.abc import Sequence
from functools import partial

import raw
import realtime_report
import side_by_side
from measure import MIB, Sample
from realtime_measure import Delivery, Scenario, measure
from realtime_servers import CONNECTIONS, VARIANTS, Realtime
from servers import Tools

SUBSCRIBERS = (100, 1_000, 5_000, 10_000)
#: The minimum number of events and of deliveries of a load.
EVENTS, DELIVERIES = 20, 40_000
#: The load of the standard size.
STANDARD = (1_000,)
#: Descriptors per connection; the service reserves some for files.
DESCRIPTORS = 2


def main() -> None:
    options = parse()
    chosen = side_by_side.choose(VARIANTS, options.only)
    most = allowed(options.size)
    counts = STANDARD if options.standard and not options.smoke else SUBSCRIBERS
    scenarios = [scenario(count, options.smoke) for count in counts if count <= most]
    with side_by_side.workshop(options, 256 * MIB) as tools:
        samples = compare(tools, chosen, scenarios, options)
        if not samples:
            sys.exit(1)
        text = realtime_report.page(tools, samples, options.rounds)
    whole = len(scenarios) == len(counts)
    made = ("realtime", text, realtime_report.picture(samples))
    side_by_side.write(options, tools, made, raw.results_of(samples), whole=whole)
    complete = {variant for variant, _ in samples} == set(chosen)
    kept = all(target.kept(found) for target, _, found in realtime_report.checked(samples))
    sys.exit(not (complete and (kept or not options.bars)))


def parse() -> argparse.Namespace:
    size = f"subscribers of the largest load ({SUBSCRIBERS[-1]}; at least {SUBSCRIBERS[0]})"
    parser = side_by_side.options(__doc__, size, [variant.name for variant in VARIANTS])
    parser.set_defaults(size=SUBSCRIBERS[-1])
    parser.add_argument("--bars", action="store_true", help="measure only the loads with a target")
    options = parser.parse_args()
    if options.size < SUBSCRIBERS[0]:
        parser.error(f"--size: at least {SUBSCRIBERS[0]}")
    if options.standard:
        options.size, options.within = STANDARD[-1], 70
    if options.smoke:
        options.size, options.rounds = SUBSCRIBERS[0], 1
    if options.bars:
        options.only = options.only or realtime_report.targeted()
    return options


def scenario(subscribers: int, smoke: bool) -> Scenario:
    return Scenario(subscribers, 4 if smoke else max(EVENTS, DELIVERIES // subscribers))


def allowed(subscribers: int) -> int:
    """Raise the limit of open files for all processes; return the possible scenarios."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, CONNECTIONS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    room = most // DESCRIPTORS
    if room < subscribers:
        side_by_side.say(f"More than {room:,} subscribers are skipped: see `ulimit -Hn`.")
    return min(room, subscribers)


def compare(
    tools: Tools,
    variants: Sequence[Realtime],
    scenarios: Sequence[Scenario],
    options: argparse.Namespace,
) -> realtime_report.Samples:
    """Measure all variants with all numbers of subscribers."""
    cases = dict.fromkeys(scenarios, variants)
    found = side_by_side.gather(cases, options, partial(measure, tools), describe)
    return {key: [s for s in taken if isinstance(s, Delivery)] for key, taken in found.items()}


def describe(_: Scenario, sample: Sample) -> str:
    if not isinstance(sample, Delivery) or not sample.delivered:
        return "not even one event"
    return (
        f"{sample.cpu:.1f} CPU-µs per delivery (client {sample.client:.1f}), "
        f"{sample.memory:.1f} KiB per connection, {sample.refused} refused, {sample.cut} cut, "
        f"{sample.missing} missing"
    )


if __name__ == "__main__":
    main()
