"""A service with few file descriptors serves other clients during attacks of slow clients.

The attacks of slowhttptest are endless headers, slow bodies, and responses that are read slowly.
With SOAK they use the default settings and take minutes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from baking import Project
from downloads import store
from environment import Environment
from running import running
from tools import program

#: Attacks at the same time would add up.
SOAK = int(os.environ.get("SOAK", "1"))
OPEN_FILES = 256
#: Connections of an attack, new connections per second, and its duration.
CONNECTIONS, RATE, SECONDS = (300, 150, 12) if SOAK == 1 else (500, 50, 240)
#: Shorter deadlines for shorter attacks.
DEADLINES = ("SERVER__HEADER_TIMEOUT", "STREAMING__IDLE_TIMEOUT", "STREAMING__SEND_TIMEOUT")
SETTINGS = dict.fromkeys(DEADLINES, "3 s") if SOAK == 1 else {}

PROBE_EVERY = 0.2
PROBE_TIMEOUT = 1.0

ATTACKS = {
    "slow heads": "-H -u {url}/",
    "slow bodies": "-B -s 100000 -u {url}/files",
    "slow readers": "-X -w 512 -y 1024 -n 2 -z 32 -u {url}/files/{file}",
}


@pytest.fixture
def service(full: Project, environment: Environment, tmp_path: Path) -> Iterator[int]:
    """The port of a service with few file descriptors."""
    limited = Environment(environment.path)
    limited.python = tmp_path / "python"
    limited.python.write_text(f'#!/bin/sh\nulimit -n {OPEN_FILES}\nexec {environment.python} "$@"')
    limited.python.chmod(0o755)
    with running(full, limited, tmp_path, **SETTINGS) as port:
        yield port


@pytest.mark.parametrize("attack", ATTACKS)
def test_slow_clients_are_closed_and_others_served(
    attack: str, service: int, tmp_path: Path
) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(16 << 20))
    file = store(service, tmp_path / "noise").id
    words = ATTACKS[attack].format(url=f"http://127.0.0.1:{service}", file=file).split()
    load = [f"-c{CONNECTIONS}", f"-r{RATE}", f"-l{SECONDS}", "-i5"]

    with (tmp_path / "report").open("wb") as report:
        tool = subprocess.Popen([program("slowhttptest"), *load, *words], stdout=report)
        answered, left = watch(tool, service)

    if b"No open connections left" in (tmp_path / "report").read_bytes():
        left = 0
    sys.stdout.write(f"{attack}: {left} left, {sum(answered)} of {len(answered)} answered\n")
    assert left <= 0.05 * CONNECTIONS
    assert sum(answered) >= 0.99 * len(answered) > 0


def watch(attack: "subprocess.Popen[bytes]", port: int) -> tuple[list[bool], int]:
    """Request the health of the service during an attack.

    Return the responses that arrived in time, and the maximum number of connections.
    """
    probes = []
    left = 0
    with attack, ThreadPoolExecutor() as threads:
        while attack.poll() is None:
            left = connections(port)
            probes.append(threads.submit(is_healthy, port))
            time.sleep(PROBE_EVERY)
    assert attack.returncode == 0
    return [probe.result() for probe in probes], left


def connections(port: int) -> int:
    """Count the established connections of a server.

    The clients of an attack read too slowly to detect that they have been closed.
    """
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(line[1].endswith(f":{port:04X}") and line[3] == "01" for line in lines)


def is_healthy(port: int) -> bool:
    started = time.monotonic()
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT)) as connection:
            connection.request("GET", "/health/live")
            status = connection.getresponse().status
    except (OSError, HTTPException):
        return False
    return status == 200 and time.monotonic() - started < PROBE_TIMEOUT
