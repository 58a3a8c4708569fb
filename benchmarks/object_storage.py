"""Compare transfers to and from S3 with the client library alone; see README.md.

make bench-s3
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import chart
import download_load
import processes
import raw
import report
import side_by_side
import upload_load
from load import HOST, PATIENCE, Load
from measure import GIB, MIB, MeasureError, Server, free_port, running, send
from report import markdown
from servers import HERE, Command, Tools, Variant

BUCKET, KEY = "files", {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret"}
KEY["AWS_DEFAULT_REGION"] = "us-east-1"
#: MiB of each upload, and how often as much a download has, as it is faster; repetitions of a
#: download; and bytes of the transfer before, which opens connections.
SIZE, LONGER, TIMES, WARM_UP = 256, 4, 4, 64 << 10
#: Transfers at once, of the second load and for the memory.
MANY = 8
#: MiB that a process may take above idle, by transfers at once.
MEMORY = {("upload", 1): 24, ("upload", MANY): 160, ("download", MANY): 64}
#: The least rate, as a share of that of the client library.
SHARE = 0.8


@dataclass(frozen=True)
class Case:
    """A load: its direction, and the number of transfers at once."""

    way: str
    count: int

    @property
    def longer(self) -> int:
        return LONGER if self.way == "download" else 1

    @property
    def times(self) -> int:
        return TIMES if self.way == "download" else 1

    @property
    def title(self) -> str:
        return f"{self.count} {self.way}{'s at once' if self.count > 1 else ''}"


CASES = [Case(way, count) for way in ("upload", "download") for count in (1, MANY)]


@dataclass
class Measured:
    """The rounds of a case: MiB/s and CPU seconds per GiB of both sides, and MiB of memory."""

    ours: list[float] = field(default_factory=list)
    library: list[float] = field(default_factory=list)
    ours_cpu: list[float] = field(default_factory=list)
    library_cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def main() -> None:
    options = parse()
    workshop = side_by_side.workshop(options, 40 * options.size * MIB)
    with workshop as tools, s3(tools) as url:
        found = {case: Measured() for case in CASES}
        for _ in side_by_side.rounds(options):
            for case, measured in found.items():
                measure(tools, url, case, options.size * case.longer * MIB, measured)
                side_by_side.say(f"{case.title}: {measured.ours[-1]:.0f} MiB/s of ours")
        text, kept = page(tools, found, options.rounds, options.size)
    made = ("s3", text, picture(found))
    side_by_side.write(options, tools, made, results_of(found))
    sys.exit(not (kept or not options.bars))


def parse() -> argparse.Namespace:
    parser = side_by_side.options(__doc__, f"MiB of an upload ({SIZE})", ["all"])
    parser.set_defaults(size=SIZE)
    parser.add_argument("--bars", action="store_true", help="fail if a target is missed")
    options = parser.parse_args()
    if options.standard:
        options.size, options.within = 64, 75
    if options.smoke:
        options.size, options.rounds = 6, 1
    return options


@contextmanager
def s3(tools: Tools) -> Generator[str]:
    """Run SeaweedFS with a bucket; yield its URL."""
    ports = {name: free_port() for name in ("s3", "filer", "master", "volume")}
    others = [f"-{name}.port.grpc={free_port()}" for name in ports]
    folder = tools.directory / "weed"
    folder.mkdir()
    words = [
        str(tools.environment.python.parent / "weed"), "mini", f"-dir={folder}", f"-ip={HOST}",
        f"-ip.bind={HOST}", "-webdav=false", "-admin.ui=false", f"-bucket={BUCKET}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", f"-admin.port={free_port()}",
        f"-admin.port.grpc={free_port()}", *others,
        *(f"-{name}.port={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with (
        (tools.directory / "weed.log").open("wb") as log,
        processes.cores(processes.CLIENT_CORES),
        subprocess.Popen(words, env={**os.environ, **KEY}, stdout=log, stderr=log) as process,
    ):
        try:
            wait_for_bucket(tools, f"http://{HOST}:{ports['s3']}")
            yield f"http://{HOST}:{ports['s3']}"
        finally:
            process.terminate()


def wait_for_bucket(tools: Tools, url: str) -> None:
    plan = {"way": "upload", "key": "", "count": 0, "size": 0, "times": 1, "warm": "warm"}
    plan["warm_size"] = WARM_UP
    words = [tools.python, str(HERE / "object_storage_client.py")]
    given = json.dumps({"url": url, "bucket": BUCKET, **plan}).encode()
    for _ in range(30):
        done = subprocess.run(words, input=given, env={**os.environ, **KEY}, capture_output=True)
        if not done.returncode:
            return
    raise MeasureError(f"the S3 server does not start: {done.stderr.decode()[-500:]}")


def measure(tools: Tools, url: str, case: Case, size: int, measured: Measured) -> None:
    """Transfer with the service, then with the library."""
    variant = Variant("s3", "ours, S3", partial(start, url=url), ours=True)
    with running(tools, variant) as server:
        file_id = stored(server, size if case.way == "download" else WARM_UP)
        transfer(server, Case(case.way, 1), file_id, size if case.way == "download" else WARM_UP)
        idle, before = processes.forget_peak(server.pid), processes.cpu_seconds(server.pid)
        seconds = transfer(server, case, file_id, size).seconds
        cpu = processes.cpu_seconds(server.pid) - before
        memory = processes.peak(server.pid) - idle
        library = alone(tools, url, case, f"{server.port}/files/{file_id}", size)
    total = case.count * case.times * size
    measured.ours.append(total / MIB / seconds)
    measured.library.append(total / MIB / library.seconds)
    measured.ours_cpu.append(cpu / total * GIB)
    measured.library_cpu.append(library.client_cpu / total * GIB)
    measured.memory.append(max(memory, 0) / MIB)


def start(tools: Tools, files: Path, port: int, *, url: str) -> Command:
    settings = {
        "storage__url": f"s3://{BUCKET}/{port}",
        "storage__endpoint_url": url,
        "server__port": str(port),
        "upload__max_size": str(64 << 30),
    }
    env = tools.variables(files, **settings) | KEY
    return Command([tools.python, "-m", tools.package], files, env)


def stored(server: Server, size: int) -> str:
    """Upload a file; return its id."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE)
    with closing(connection):
        connection.request("POST", "/files", bytes(size))
        response = connection.getresponse()
        record = json.load(response)
    if response.status != http.HTTPStatus.CREATED:
        raise MeasureError(f"an upload got {response.status}: {record}")
    return str(record["id"])


def transfer(server: Server, case: Case, file_id: str, size: int) -> Load:
    """Run a load in another process, on the core of the service.

    S3 has the other one for itself, as it has while the library is measured.
    """
    if case.way == "upload":
        plan = upload_load.Plan(server.port, "raw", "/files", case.count, size)
        words = [sys.executable, str(HERE / "upload_load.py")]
        given = vars(plan)
    else:
        path = f"/files/{file_id}"
        wanted = download_load.Plan(server.port, path, case.count, size, case.times)
        words = [sys.executable, str(HERE / "download_load.py")]
        given = vars(wanted)
    output = send(server, words, json.dumps(given).encode(), cores=processes.SERVER_CORE).output
    return Load(**json.loads(output))


def alone(tools: Tools, url: str, case: Case, key: str, size: int) -> Load:
    """Transfer the same with the client library, on the core of the service."""
    plan = {"way": case.way, "count": case.count, "size": size, "key": key, "times": case.times}
    given = plan | {"url": url, "bucket": BUCKET, "warm": key, "warm_size": size}
    if case.way == "upload":
        given |= {"warm": "warm", "warm_size": WARM_UP}
    words = [tools.python, str(HERE / "object_storage_client.py")]
    with processes.cores(processes.SERVER_CORE):
        done = subprocess.run(
            words, input=json.dumps(given).encode(), env={**os.environ, **KEY}, capture_output=True
        )
    if done.returncode:
        raise MeasureError(f"the client library failed: {done.stderr.decode()[-500:]}")
    return Load(**json.loads(done.stdout))


def page(tools: Tools, found: dict[Case, Measured], rounds: int, size: int) -> tuple[str, bool]:
    """Return the report, and whether the targets are met."""
    rows, targets = [], []
    for case, measured in found.items():
        rates = zip(measured.ours, measured.library, strict=True)
        shares = [ours / library for ours, library in rates]
        share, memory = median(shares), max(measured.memory)
        cpu, theirs = median(measured.ours_cpu), median(measured.library_cpu)
        ours, library = median(measured.ours), median(measured.library)
        figures = [f"{ours:.0f}", f"{library:.0f}", f"{share:.2f}", report.spread(shares)]
        figures += [f"{cpu:.2f}", report.spread(measured.ours_cpu), f"{theirs:.2f}"]
        rows.append([case.title, *figures, f"{memory:.0f}"])
        words = f"{case.title}: rate, x library"
        targets.append((words, f"{share:.2f}", f"≥ {SHARE}", share >= SHARE))
        if limit := MEMORY.get((case.way, case.count)):
            words = f"{case.title}: MiB above idle"
            targets.append((words, f"{memory:.0f}", f"≤ {limit}", memory <= limit))
    columns = [
        "", "MiB/s", "library", "x library", "±", "CPU-s per GiB", "±", "library",
        "MiB above idle",
    ]  # fmt: skip
    met = [[*cells, "yes" if kept else "NO"] for *cells, kept in targets]
    packages = ("fastapi", "uvicorn", "aiobotocore")
    sections = [
        "# Transfers to and from S3, side by side",
        f"Files of {size} MiB, for downloads of {LONGER * size} MiB, {TIMES} times; the median of"
        f" {rounds} rounds. SeaweedFS has a core for itself; the service and its client share"
        f" another one, on which the library also runs. {report.machine(tools, packages, [])}.",
        "![CPU seconds per GiB](s3.svg)",
        markdown(columns, rows),
        f"### Targets\n\n{markdown(['', 'measured', 'target', 'met'], met)}",
    ]
    return "\n\n".join(sections) + "\n", all(kept for *_, kept in targets)


def results_of(found: dict[Case, Measured]) -> list[raw.Record]:
    """Return the rounds of both sides."""
    records = []
    for case, measured in found.items():
        ours = zip(measured.ours, measured.ours_cpu, measured.memory, strict=True)
        rounds = [{"rate": rate, "cpu": cpu, "memory": memory} for rate, cpu, memory in ours]
        records.append(raw.result("ours", "ours, S3", case.title, rounds))
        library = zip(measured.library, measured.library_cpu, strict=True)
        rounds = [{"rate": rate, "cpu": cpu} for rate, cpu in library]
        records.append(raw.result("library", "aiobotocore alone", case.title, rounds))
    return records


def picture(found: dict[Case, Measured]) -> str:
    """Draw the CPU seconds of one transfer and of many."""
    rows = []
    for way in ("upload", "download"):
        one, many = found[Case(way, 1)], found[Case(way, MANY)]
        ours = (median(one.ours_cpu), median(many.ours_cpu))
        theirs = (median(one.library_cpu), median(many.library_cpu))
        rows += [
            chart.Row(f"ours, {way}", ours, own=True),
            chart.Row(f"client library, {way}", theirs, own=False),
        ]
    title = "CPU seconds per GiB to and from S3 (less is better)"
    return chart.bars(title, ("1 transfer", f"{MANY} at once"), rows)


if __name__ == "__main__":
    main()
