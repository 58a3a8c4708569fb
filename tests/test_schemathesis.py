"""A generated service conforms to its OpenAPI document, as schemathesis checks."""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from baking import Project
from environment import Environment
from running import running

TESTS = Path(__file__).parent
SOAK = int(os.environ.get("SOAK", "1"))
#: Test cases per operation and phase.
EXAMPLES = 15 if SOAK == 1 else 200
#: Part of the report; `SEED=… make test` repeats the run.
SEED = int(os.environ.get("SEED", "1" if SOAK == 1 else secrets.randbits(64)))
PHASES = ["examples", "coverage", "fuzzing", "stateful"]


@pytest.fixture
def service(full: Project, environment: Environment, tmp_path: Path) -> Iterator[int]:
    """A service whose streams end soon, with a high limit of runs."""
    settings = {"REALTIME__MAX_AGE": "200 ms", "REALTIME__MAX_RUNS": "100000"}
    with running(full, environment, tmp_path, **settings) as port:
        yield port


def test_the_service_conforms_to_its_document(service: int, tmp_path: Path) -> None:
    paths = json.loads(get(service, "/openapi.json"))["paths"]
    ran = schemathesis(f"http://127.0.0.1:{service}", tmp_path / "report.json")

    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert ran.returncode == 0
    operations = sum(len(path) for path in paths.values())
    assert report["operations"]["tested"] == operations
    assert {phase: report["phases"][phase]["status"] for phase in PHASES} == dict.fromkeys(
        PHASES, "success"
    )
    assert report["test_cases"]["generated"] > EXAMPLES * operations
    assert failures_in(get(service, "/metrics")) == []


def get(port: int, path: str) -> str:
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def schemathesis(service: str, report: Path) -> "subprocess.CompletedProcess[str]":
    command = [
        *(sys.executable, "-m", "schemathesis.cli"),
        f"--config-file={TESTS / 'schemathesis.toml'}",
        *("run", f"{service}/openapi.json", f"--url={service}"),
        *(f"--phases={','.join(PHASES)}", "--checks=all", f"--max-examples={EXAMPLES}"),
        *(f"--seed={SEED}", "--no-color", "--report=json", f"--report-json-path={report}"),
    ]
    ran = subprocess.run(
        command,
        cwd=report.parent,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    sys.stdout.write(ran.stdout)  # pytest shows it when the test fails
    return ran


def failures_in(metrics: str) -> list[str]:
    """Return the metrics of requests with an outcome that indicates an error of the service."""
    counted = [line for line in metrics.splitlines() if line.startswith("http_requests_total{")]
    assert counted
    return [line for line in counted if re.search(r'status="5|outcome="server_error"', line)]
