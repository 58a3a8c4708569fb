"""The key that the first start creates, and the link to the demo page."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.keys import digest_of
from {{cookiecutter.package_name}}.engine.access.store import KeyStore

from .. import processes
from ..peer import PATIENCE

LINK = r"Open http://127\.0\.0\.1:(\d+)/#key=(sk_\S+)\n"
STARTED = "Application startup complete"
DATABASE = "data/access.sqlite3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of `processes`."""
    return Path(shutil.copy(processes.__file__, tmp_path)).parent


def start(folder: Path, *arguments: str, until: str, **environment: str) -> str:
    """Start the service, end it when it has printed `until`, and return its output."""
    settings = {f"APP_{name}": value for name, value in environment.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "processes", *arguments],
        cwd=folder,
        env={**os.environ, "APP_SERVER__PORT": "0", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    watch = threading.Timer(PATIENCE * 2, process.kill)
    watch.start()
    output = ""
    with process:
        for line in process.stdout:
            output += line
            if re.search(until, output, re.DOTALL):
                break
        process.terminate()
        output += process.stdout.read()
    watch.cancel()
    return output


def keys_of(folder: Path) -> dict[bytes, str]:
    """Return the principals of the stored keys by digest."""
    store = KeyStore(LocalDatabase(folder / DATABASE), frozenset)
    store.close()
    return {digest: key.principal.id for digest, key in store.keys.items()}


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [((), 1), ((), 2), (("--reload",), 1)],
    ids=["one", "several", "reload"],
)
@pytest.mark.slow
def test_the_first_start_prints_a_key_and_its_link(
    folder: Path, arguments: tuple[str, ...], workers: int
) -> None:
    until = ".*".join([STARTED] * workers)
    environment = {"WORKERS": str(workers)}
    output = start(folder, *arguments, until=f"(?=.*{LINK}).*{until}", **environment)

    lines = [line for line in output.splitlines() if not line.startswith("{")]
    port, key = re.findall(LINK, output)[0]
    assert lines[1:] == [key, f"Open http://127.0.0.1:{port}/#key={key}"]
    assert port != "0"
    assert f"running on http://127.0.0.1:{port}" in output
    assert keys_of(folder) == {digest_of(key): "admin"}


def test_the_second_start_prints_no_key(folder: Path) -> None:
    start(folder, until=LINK)
    output = start(folder, until="running on")

    assert "key" not in output
    assert len(keys_of(folder)) == 1


def test_a_service_for_other_machines_explains_how_to_create_a_key(folder: Path) -> None:
    output = start(folder, until="running on", SERVER__PUBLIC_URL="https://files.example.com")

    lines = [line for line in output.splitlines() if not line.startswith("{")]
    assert lines == ["There is no API key yet: `serve keys create NAME admin` prints one"]
    assert keys_of(folder) == {}


def test_a_start_that_fails_creates_no_key(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        output = start(folder, until="never", SERVER__PORT=str(other.getsockname()[1]))

    assert "address already in use" in output
    assert "sk_" not in output
    assert keys_of(folder) == {}
