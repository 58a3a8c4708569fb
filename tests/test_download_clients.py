"""Common clients download files and archives, and resume after a crash of one of the sides."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest

from baking import Project
from downloads import PATIENCE, SOAK, Stored, sha256_of, store
from environment import Environment
from line import Line
from running import running, started
from tools import program

SIZE = 16 << 20 if SOAK == 1 else 1 << 30
KILLS = min(SOAK + 1, 5)
#: The numbers of received bytes, over all runs of a client, at which a process is killed.
POINTS = [SIZE * number // (KILLS + 1) for number in range(1, KILLS + 1)]

#: Commands that exit at the first failure, and resume when they are run again.
CLIENTS = {
    "curl": "curl --silent --show-error --fail --continue-at - --output {saved} {url}",
    "wget": "wget --no-verbose --continue --tries=1 --output-document={saved} {url}",
    "aria2c": (
        "aria2c --quiet --continue -x8 -s8 --min-split-size=1M --file-allocation=none"
        " --disk-cache=0 --use-head=true --max-tries=1 --dir=/ --out={saved} {url}"
    ),
}
#: The signal for each client: SIGKILL, except for one that saves its state when it ends.
DEATHS = {"aria2c": subprocess.Popen.terminate}
CONNECTIONS = {"curl": 1, "wget": 1, "aria2c": 8}


class Target(NamedTuple):
    """The path of a download, and the SHA-256 of its bytes."""

    path: str
    digest: str


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the services run, one after another."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def stored(full: Project, environment: Environment, data: Path) -> Stored:
    """A stored file of reproducible noise."""
    path = data / "holiday.mp4"
    with path.open("wb") as out:
        for number in range(SIZE >> 20):
            out.write(hashlib.shake_128(b"%d" % number).digest(1 << 20))
    with running(full, environment, data) as port:
        return store(port, path)


@pytest.fixture(scope="module", params=["file", "archive"])
def target(
    request: pytest.FixtureRequest,
    full: Project,
    environment: Environment,
    data: Path,
    stored: Stored,
) -> Target:
    """The file, and an archive of it and a small one; both are known from a first download."""
    if request.param == "file":
        return Target(f"/files/{stored.id}", stored.digest)
    small = data / "notes.txt"
    small.write_bytes(b"notes" * 1000)
    with running(full, environment, data) as port:
        path = f"/archive?id={store(port, small).id}&id={stored.id}"
        with urlopen(f"http://127.0.0.1:{port}{path}") as response:
            return Target(path, sha256_of(response))


@pytest.fixture
def service(full: Project, environment: Environment, data: Path, stored: Stored) -> Iterator[int]:
    """The port of a service with the file."""
    with running(full, environment, data) as port:
        yield port


def command(client: str, line: Line, target: Target, saved: Path) -> list[str]:
    name, *words = CLIENTS[client].split()
    url = f"{line.url}{target.path}"
    return [program(name), *(word.format(saved=saved, url=url) for word in words)]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_is_killed_half_way_resumes(
    client: str, target: Target, service: int, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    with Line(service, down=True) as line:
        run = command(client, line, target, saved)
        for point in POINTS:
            had = blocks_of(saved)
            line.carry_until(point)
            with subprocess.Popen(run) as process:
                try:
                    line.wait_until_dead(process, PATIENCE)
                    wait_for_more_than(had, saved)
                finally:
                    DEATHS.get(client, subprocess.Popen.kill)(process)
            line.cut()
        last = run_to_the_end(run, line)

    assert sha256_of(saved.open("rb")) == target.digest
    assert last < SIZE
    assert line.most >= CONNECTIONS[client]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_resumes_after_a_crash_of_the_service(
    client: str,
    full: Project,
    environment: Environment,
    data: Path,
    target: Target,
    tmp_path: Path,
) -> None:
    saved = tmp_path / "saved"
    with Line(0, down=True) as line:
        run = command(client, line, target, saved)
        for point in POINTS:
            line.carry_until(point)
            with started(full, environment, data) as service:
                line.service_port = service.port
                with subprocess.Popen(run) as process:
                    try:
                        line.wait_until_dead(process, PATIENCE)
                        service.process.kill()
                        line.cut()
                        assert process.wait(PATIENCE) != 0, "a part of a file is no success"
                    finally:
                        process.kill()
        with running(full, environment, data) as line.service_port:
            last = run_to_the_end(run, line)

    assert sha256_of(saved.open("rb")) == target.digest
    assert last < SIZE


def run_to_the_end(run: list[str], line: Line) -> int:
    """Run a client for the last time; return the number of bytes that it received."""
    before = line.carried
    line.carry_until(sys.maxsize)
    subprocess.run(run, check=True, timeout=PATIENCE)
    return line.carried - before


def blocks_of(saved: Path) -> int:
    """Return the number of allocated bytes of a file, which may be sparse."""
    return saved.stat().st_blocks if saved.exists() else 0


def wait_for_more_than(had: int, saved: Path) -> None:
    """Wait until a client has saved some of the received bytes."""
    end = time.monotonic() + PATIENCE
    while blocks_of(saved) <= had:
        assert time.monotonic() < end, "the client saves nothing"
        time.sleep(0.01)
