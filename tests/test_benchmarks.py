"""Every benchmark runs and reports all of its results.

The load client for events is also tested alone: it must neither lose events nor report false
losses.
"""

import asyncio
import importlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import summary
from uv import find_uv_bin

from answers import REPOSITORY

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="they read /proc"),
    pytest.mark.platform_only("they read /proc"),
]

#: Maximum seconds for one benchmark; the first one installs dependencies.
PATIENCE = 300
#: The time limit of the load client, in seconds.
TIME_LIMIT = 5

SUBSCRIBERS, EVENTS = 3, 5
#: Seconds between two pieces of a response.
PAUSE = 0.1
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
PUBLISHED, BODY = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n", b"{}"

Table = dict[str, dict[str, str]]


def bench(name: str, arguments: str, **variables: str) -> str:
    """Run a benchmark with make; return its report."""
    given = [f"{key}={value}" for key, value in {"ARGS": arguments, **variables}.items()]
    done = subprocess.run(
        ["make", "--no-print-directory", f"bench-{name}", f"UV={find_uv_bin()}", *given],
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    sys.stdout.write(done.stdout + done.stderr)  # pytest shows it when the test fails
    assert done.returncode == 0
    return done.stdout


def tables_with(column: str, report: str) -> list[Table]:
    """Return the tables with a column: their cells, by the names of rows and columns."""
    found: list[Table] = []
    for block in report.split("\n\n"):
        lines = [line.strip("| ").split(" | ") for line in block.splitlines() if line[:1] == "|"]
        if lines and column in lines[0]:
            rows = {line[0]: line[1:] for line in lines[2:]}
            found.append({k: dict(zip(lines[0], row, strict=False)) for k, row in rows.items()})
    return found


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    ("name", "arguments", "figure", "servers"),
    [
        (
            "upload", "--size 4 --rounds 1 --big 0 --only raw,discard", "MiB/s",
            ["ours, raw body", "FastAPI, receive and discard"],
        ),
        (
            "download", "--size 256 --rounds 1 --only rows,yield", "rows/s",
            ["ours, JSON Lines", "FastAPI, yield of a model"],
        ),
        (
            "realtime", "--size 100 --rounds 1 --only ours,stream", "deliveries/s",
            ["ours", "FastAPI, StreamingResponse"],
        ),
    ],
    ids=["upload", "download", "realtime"],
)  # fmt: skip
def test_a_benchmark_measures_our_service_and_another_one(
    name: str, arguments: str, figure: str, servers: list[str]
) -> None:
    tables = tables_with(figure, bench(name, arguments))

    assert tables
    for table in tables:
        assert list(table) == servers
        assert all(number(row[figure]) > 0 for row in table.values())
        assert {row.get("missing", "0") for row in table.values()} == {"0"}


def test_the_service_is_measured_behind_nginx_and_without() -> None:
    if shutil.which("nginx") is None:
        pytest.skip("there is no nginx here")

    report = bench("nginx", "--smoke")

    (rates,) = tables_with("MiB/s", report)
    assert list(rates) == ["nginx alone", "nginx, X-Accel-Redirect of the service"]
    assert all(number(row["MiB/s"]) > 0 for row in rates.values())
    (times,) = tables_with("behind nginx", report)
    assert len(times) == 3
    assert all(number(row["behind nginx"]) > 0 for row in times.values())
    (targets,) = tables_with("target", report)
    assert len(targets) == 3


def test_a_smoke_run_writes_its_report_its_chart_and_its_values(tmp_path: Path) -> None:
    report = bench("download", f"--smoke --only zero-copy --results {tmp_path}")

    assert (tmp_path / "download.md").read_text("utf-8") == report
    assert "ours, zero-copy" in (tmp_path / "download.svg").read_text("utf-8")
    tables = tables_with("CPU-µs each", report)
    assert tables
    for table in tables:
        assert list(table) == ["ours, zero-copy"]
        assert all(number(row["CPU-µs each"]) > 0 for row in table.values())
    values = json.loads((tmp_path / "download.json").read_text("utf-8"))
    assert {each["server"] for each in values["results"]} == {"zero-copy"}
    assert all(len(each["rounds"]) == 1 for each in values["results"])
    facts = values["facts"]
    assert facts["cores"] == os.cpu_count()
    assert facts["packages"]["fastapi"]
    assert len(facts["load_before"]) == 3


def test_all_benchmarks_run_after_each_other_and_a_missing_program_has_a_reason(
    tmp_path: Path,
) -> None:
    make = shutil.which("make")
    assert make is not None

    done = subprocess.run(
        [make, "--no-print-directory", "bench", f"UV={find_uv_bin()}",
         f"ARGS=--smoke --only nginx,overhead --results {tmp_path}"],
        cwd=REPOSITORY, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True,
        encoding="utf-8", timeout=2 * PATIENCE, check=False,
    )  # fmt: skip

    sys.stdout.write(done.stdout + done.stderr)
    assert done.returncode == 0
    nginx, overhead = json.loads((tmp_path / "summary.json").read_text("utf-8"))["benchmarks"]
    assert (nginx["status"], nginx["reason"]) == ("left out", "nginx is not installed")
    assert (overhead["status"], overhead["rounds"]) == ("measured", 1)
    (measured,) = tables_with("a generated service", (tmp_path / "summary.md").read_text("utf-8"))
    assert number(measured["small request, CPU-µs"]["a generated service"]) > 0
    assert measured["upload to S3, MiB/s"]["a generated service"] == "not measured: not selected"
    tables = tables_with("CPU-µs each", (tmp_path / "overhead.md").read_text("utf-8"))
    assert [list(table) for table in tables] == 3 * [
        ["ours, everything on", "FastAPI, bare", "FastAPI, one BaseHTTPMiddleware"]
    ]


def test_a_benchmark_that_is_too_slow_is_ended_and_the_others_run(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "everything.py"), "--smoke"]
    command += ["--only", "overhead,s3", "--limit", "0.01", "--results", str(tmp_path)]

    done = subprocess.run(command, timeout=PATIENCE, check=False)

    assert done.returncode == 1
    runs = json.loads((tmp_path / "summary.json").read_text("utf-8"))["benchmarks"]
    assert [(each["name"], each["status"]) for each in runs] == [
        ("overhead", "too slow"),
        ("s3", "too slow"),
    ]


def test_all_benchmarks_together_take_at_most_15_minutes() -> None:
    everything = importlib.import_module("everything")  # It reads /proc when it is imported.

    assert sum(each.limit for each in everything.BENCHMARKS) <= 15 * 60


def test_the_values_in_the_readme_are_those_of_the_summary() -> None:
    results = REPOSITORY / "benchmarks" / "results"
    whole = summary.read(results, "summary")
    expected = summary.table(whole) if whole else None

    assert summary.block((REPOSITORY / "README.md").read_text("utf-8")) == expected
    if whole:
        assert (results / "summary.md").read_text("utf-8") == summary.page(whole)


def test_the_values_in_a_readme_are_replaced(tmp_path: Path) -> None:
    facts = {"cores": 2, "cpu": "a", "memory_mib": 1, "kernel": "b", "python": "3", "packages": {}}
    facts |= {"programs": {}, "load_before": [0.1], "date": "c", "commit": "d", "changed": False}
    rounds = [{"rate": 100.0}, {"rate": 104.0}, {"rate": 101.0}]
    results = [
        {"server": name, "label": label, "load": "1 upload", "rounds": rounds}
        for name, label in (("ours", "ours, S3"), ("library", "aiobotocore alone"))
    ]
    document = {"facts": facts, "results": results}
    (tmp_path / "s3.json").write_text(json.dumps(document), "utf-8")
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{summary.BEGIN}old\n{summary.END}\nAfter.\n", "utf-8")

    summary.write(tmp_path, [{"name": "s3", "status": "measured", "reason": "", "seconds": 9.0}])
    summary.update(readme, tmp_path)

    text = readme.read_text("utf-8")
    assert "\n| upload to S3, MiB/s | 101 ± 2 | aiobotocore alone: 101 ± 2 |\n" in text
    assert "\n| download from S3, MiB/s | not measured |  |\n" in text
    assert text.startswith("# Title\n")
    assert text.endswith("After.\n")
    block = summary.block(text)
    assert block
    assert block in (tmp_path / "summary.md").read_text("utf-8")


def test_every_format_of_a_run_is_measured_beside_that_of_fastapi() -> None:
    report = bench("runs", "--smoke --only events,lines,text,openai,ai-sdk,ag-ui,native")

    tables = tables_with("CPU-µs per token", report)
    assert len(tables) == 2
    for table in tables:
        assert len(table) == 7
        assert all(number(row["CPU-µs per token"]) > 0 for row in table.values())
    (targets,) = tables_with("target", report)
    assert len(targets) == 14


def test_hostile_clients_are_measured_on_our_service_and_on_a_bare_one() -> None:
    report = bench("hostile", "--smoke --only gets --sides ours,bare")

    attacked = tables_with("MiB/s sent", report)
    assert len(attacked) == 4
    for table in attacked:
        (row,) = table.values()
        assert number(row["MiB/s sent"]) > 0
        assert number(row["p99 ms"]) > 0
    (targets,) = tables_with("target", report)
    assert targets["workers replaced"]["measured"] == "0"


def test_every_cost_of_a_single_request_is_measured() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server here")

    report = bench("single", "--smoke --brokers redis --only openapi,key")

    (table,) = tables_with("CPU-ms", report)
    assert table["openapi"]["status"] == "200"
    assert table["publish with a key"]["status"] == "202"
    assert number(table["openapi"]["CPU-ms"]) > 0
    assert number(table["publish with a key"]["bytes sent"]) > 0
    assert tables_with("target", report)


def test_transfers_to_s3_are_measured_beside_those_of_the_client_library() -> None:
    report = bench("s3", "--smoke")

    (table,) = tables_with("x library", report)
    assert len(table) == 4
    assert all(number(row["MiB/s"]) > 0 for row in table.values())
    (targets,) = tables_with("target", report)
    assert len(targets) == 7


def test_a_commit_is_compared_with_the_work_tree() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no clone: there are no commits")
    cases = ["ingest-csv", "export", "fan-out-100"]

    (table,) = tables_with("now", bench("compare", f"--smoke --only {','.join(cases)}"))

    assert list(table) == cases
    for row in table.values():
        assert number(row["HEAD"]) > 0
        assert number(row["now"]) > 0
        assert number(row["ratio"]) > 0


@dataclass
class Busy:
    """A server of events that responds like one on a busy machine."""

    splits_events: bool = False
    splits_answers: bool = False
    refuses: int = 0
    """Subscribers that have to come again."""
    cuts_after: int | None = None
    """Events after which it leaves one subscriber."""
    published: int = 0
    streams: list[asyncio.StreamWriter] = field(default_factory=list)

    open: set[asyncio.Task[None]] = field(default_factory=set)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until its client disconnects."""
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                await self.publish(reader, writer)
            elif self.refuses:
                self.refuses -= 1
                writer.write(BUSY)
            else:
                writer.write(STREAM)
                self.streams.append(writer)
                await reader.read()

    async def publish(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to one publisher; the headers of its first request have been read."""
        late = b""
        while True:
            await self.send(b"data: " + await reader.readexactly(200) + b"\n\n")
            writer.write(late + PUBLISHED)
            late = BODY
            following = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
            if self.splits_answers:
                # A client that ignores the body publishes now, and reads the body later.
                await asyncio.wait([following], timeout=PAUSE)
            if not following.done():
                writer.write(late)
                late = b""
            await following

    async def send(self, event: bytes) -> None:
        self.published += 1
        if self.published == self.cuts_after:
            self.streams.pop().close()
        pieces = [event[:12], event[12:]] if self.splits_events else [event]
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(PAUSE)
            for stream in self.streams:
                stream.write(piece)


def loaded(busy: Busy) -> dict[str, float]:
    """Load a server with events; return the report of the client."""

    async def load() -> tuple[int | None, bytes]:
        async with await asyncio.start_server(busy.accept, "127.0.0.1", 0) as server:
            plan = {
                "ports": [server.sockets[0].getsockname()[1]], "pids": [os.getpid()],
                "subscribe": "/events", "publish": "/events", "subscribers": SUBSCRIBERS,
                "events": EVENTS, "size": 200, "seconds": TIME_LIMIT,
            }  # fmt: skip
            client = await asyncio.create_subprocess_exec(
                sys.executable, str(REPOSITORY / "benchmarks" / "realtime_load.py"),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, _ = await client.communicate(json.dumps(plan).encode())
            await asyncio.gather(*busy.open)
            return client.returncode, output

    code, output = asyncio.run(load())
    assert code == 0
    report: dict[str, float] = json.loads(output)
    return report


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    "busy",
    [Busy(splits_events=True), Busy(splits_answers=True), Busy(refuses=1)],
    ids=["events in pieces", "answers in pieces", "refused at first"],
)
def test_the_load_client_loses_no_event_of_a_busy_server(busy: Busy) -> None:
    expected = busy.refuses

    report = loaded(busy)

    assert report["delivered"] == SUBSCRIBERS * EVENTS
    assert (report["missing"], report["cut"], report["refused"]) == (0, 0, expected)


def test_the_load_client_distinguishes_a_cut_stream_from_a_missing_event() -> None:
    report = loaded(Busy(cuts_after=2))

    assert report["delivered"] == SUBSCRIBERS * EVENTS - (EVENTS - 1)
    assert (report["missing"], report["cut"]) == (0, 1)
