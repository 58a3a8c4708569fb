"""Run every benchmark at its standard size, and write the summary; see README.md.

make bench
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import summary
from servers import HERE, REPOSITORY
from side_by_side import LEFT_OUT, RESULTS, say

#: Seconds in which a benchmark that is too slow can stop its servers and delete its files.
GRACE = 20


@dataclass(frozen=True)
class Benchmark:
    """A program, and the seconds after which it is ended."""

    name: str
    script: str
    limit: float = 100


#: Installs the packages of all benchmarks, so that no benchmark spends its time with that.
INSTALLATION = Benchmark("installation", "installation.py", 300)
BENCHMARKS = [
    Benchmark("upload", "upload.py"),
    Benchmark("download", "download.py"),
    Benchmark("nginx", "behind_nginx.py"),
    Benchmark("realtime", "realtime.py"),
    Benchmark("runs", "runs.py"),
    Benchmark("overhead", "overhead.py"),
    Benchmark("hostile", "hostile.py"),
    Benchmark("single_request", "single_request.py"),
    Benchmark("s3", "object_storage.py"),
]
#: Seconds of a benchmark of the full size.
FULL = 3600


@dataclass(frozen=True)
class Outcome:
    """How a benchmark ended."""

    name: str
    status: str
    """`measured`, `left out`, `failed` or `too slow`."""
    seconds: float
    reason: str = ""


def main() -> None:
    options = parse()
    results: Path = options.results or RESULTS
    if options.readme:
        summary.update(REPOSITORY / "README.md", results)
        return
    # On SIGTERM, end the benchmark that runs as well.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    outcomes = run_all(chosen_from(options.only), options, results)
    summary.write(results, [dict(vars(each)) for each in outcomes])
    sys.exit(any(each.status in ("failed", "too slow") for each in outcomes))


def parse() -> argparse.Namespace:
    names = ", ".join(each.name for each in BENCHMARKS)
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", type=lambda text: text.split(","), help=f"some of {names}")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--smoke", action="store_true", help="test them with small loads")
    sizes.add_argument("--full", action="store_true", help="the full sizes; takes two hours")
    parser.add_argument("--results", type=Path, help="directory of the reports (results)")
    parser.add_argument("--limit", type=float, help="seconds of each benchmark")
    parser.add_argument(
        "--readme", action="store_true", help="measure nothing; copy the figures to README.md"
    )
    options = parser.parse_args()
    if options.smoke and not options.results:
        options.results = REPOSITORY / "build" / "benchmarks" / "smoke"
    return options


def chosen_from(names: Sequence[str] | None) -> list[Benchmark]:
    known = {each.name: each for each in BENCHMARKS}
    if unknown := set(names or ()) - known.keys():
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return [known[name] for name in names or known]


def run_all(
    chosen: Sequence[Benchmark], options: argparse.Namespace, results: Path
) -> list[Outcome]:
    """Run the benchmarks in turn; continue after a failure."""
    size = [] if options.full else ["--standard"]
    size += ["--smoke"] if options.smoke else []
    outcomes = []
    if not options.smoke:
        run(INSTALLATION, [], INSTALLATION.limit)
    for benchmark in chosen:
        say(f"{benchmark.name} ...")
        usual = INSTALLATION.limit if options.smoke else benchmark.limit
        limit = options.limit or (FULL if options.full else usual)
        outcome = run(benchmark, [*size, "--results", str(results)], limit)
        say(f"{benchmark.name}: {outcome.status} after {outcome.seconds:.0f} s {outcome.reason}")
        outcomes.append(outcome)
    return outcomes


def run(benchmark: Benchmark, arguments: Sequence[str], limit: float) -> Outcome:
    """Run one benchmark as a process, which is ended after its limit."""
    began = time.monotonic()
    command = [sys.executable, str(HERE / benchmark.script), *arguments]
    # Its own group, so that no server survives it.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            output = end(process)
            seconds = time.monotonic() - began
            return Outcome(benchmark.name, "too slow", seconds, f"the limit is {limit:g} s")
        except BaseException:
            end(process)
            raise
    seconds = time.monotonic() - began
    if process.returncode == LEFT_OUT:
        return Outcome(benchmark.name, "left out", seconds, output.strip())
    sys.stdout.write(output)
    if process.returncode:
        reason = f"the exit code is {process.returncode}"
        return Outcome(benchmark.name, "failed", seconds, reason)
    return Outcome(benchmark.name, "measured", seconds)


def end(process: "subprocess.Popen[str]") -> str:
    """End a benchmark, which stops its servers; kill the processes that remain."""
    process.terminate()
    try:
        return process.communicate(timeout=GRACE)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


if __name__ == "__main__":
    main()
