"""`make serve` runs a service and needs only Python and make."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pexpect
import pytest

from baking import copy_of_the_template

#: Maximum seconds for one step; the longest one installs the dependencies.
PATIENCE = 300


@pytest.fixture
def port() -> Iterator[int]:
    with (
        socket.socket() as kept
    ):  # Reserves the port without listening, so that only the service can listen on it.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return copy_of_the_template(tmp_path / "clone")


@pytest.fixture
def serving(clone: Path, port: int) -> Iterator["pexpect.spawn[str]"]:
    """Run `make serve` in a terminal, on a fresh clone without uv, until its first log line."""
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin"
    # Otherwise uv would install the service into the environment of these tests.
    bare = {k: v for k, v in os.environ.items() if k != "UV_PROJECT_ENVIRONMENT"}
    process = pexpect.spawn(
        "make",
        ["serve", f"PORT={port}", "UV=.tools/bin/uv"],
        cwd=str(clone),
        env={**bare, "PATH": path},
        dimensions=(100, 300),
        encoding="utf-8",
        timeout=PATIENCE,
    )
    yield process
    process.close(force=True)


def test_make_serve_needs_only_python_and_ends_well_on_ctrl_c(
    serving: "pexpect.spawn[str]", port: int, clone: Path
) -> None:
    before = {path.name for path in clone.iterdir()}
    serving.expect_exact(f"Starting it at http://127.0.0.1:{port}")
    serving.expect_exact("Uvicorn running on")
    serving.expect(rf"Open http://127\.0\.0\.1:{port}/#key=(sk_\S+)\r\n")
    assert isinstance(serving.match, re.Match)

    client = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    client.request("GET", "/access", headers={"X-API-Key": serving.match[1]})
    assert json.load(client.getresponse()) == {"principal": "admin", "scopes": ["admin"]}
    client.close()
    serving.sendintr()
    serving.expect(pexpect.EOF)
    serving.close()

    assert serving.exitstatus == 0
    assert "Error" not in str(serving.before)
    assert {path.name for path in clone.iterdir()} - before <= {".tools", "build"}


@pytest.mark.parametrize("taken", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
@pytest.mark.fault("G32")
def test_make_serve_on_a_taken_port_says_how_to_choose_another(taken: str, clone: Path) -> None:
    with socket.create_server((taken, 0)) as other:
        port = other.getsockname()[1]
        command = ["make", "--no-print-directory", "serve", f"PORT={port}"]
        command.append(f"PYTHON={sys.executable}")
        done = subprocess.run(
            command, cwd=clone, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith(f"Port {port} cannot be used: ")
    assert "make serve PORT=8001" in done.stderr.splitlines()[0]
    assert not (clone / "build").exists()
