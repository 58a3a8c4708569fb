"""Common clients upload files, and resume after a crash or a lost connection.

The tests install the newest versions of the clients, because the service must work with them.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from baking import Bake, Project
from environment import Environment, uv
from line import Line
from running import running, web_site
from silent import SilentLine, StandingLine
from tools import program

pytestmark = pytest.mark.long

SOAK = int(os.environ.get("SOAK", "1"))
SIZE = SOAK * 10 << 20
KILLS = min(SOAK + 1, 5)
#: Additional bytes for each run of a client: its requests, and data in transit when it was killed.
#: A client that starts from the beginning sends much more.
SURPLUS = 1 << 20
#: Maximum seconds for one run of a client on a busy machine.
PATIENCE = 60 * (SOAK + 1)

#: Commands, with fixtures in braces. The arguments are the URL of the service, a file, and a folder
#: for the state of the client.
CLIENTS = {
    "tus-js-client-4": "{node} {scripts}/tus_js.mjs tus-v4 tus-v1 1",
    "tus-js-client-4-draft": "{node} {scripts}/tus_js.mjs tus-v4 ietf-draft-05 1",
    "tus-js-client": "{node} {scripts}/tus_js.mjs tus-newest tus-v1 1",
    "tus-js-client-draft": "{node} {scripts}/tus_js.mjs tus-newest ietf-draft-05 1",
    "tus-js-client-parallel": "{node} {scripts}/tus_js.mjs tus-newest tus-v1 3",
    "uppy": "{node} {scripts}/uppy.mjs {chromium} {page}",
    "tuspy": "{python} {scripts}/tuspy_client.py",
    "aiotus": "{python} {scripts}/aiotus_client.py",
}
#: The signal for each client: SIGKILL, except for browsers, which close the page.
DEATHS = {"uppy": subprocess.Popen.terminate}

#: Clients that send several files at once, with their default retries.
RETRYING = ["tus-js-client-4", "tus-js-client", "tus-js-client-4-draft", "uppy"]
#: The number of uploads, and the bytes of each.
UPLOADS = 3 * SOAK
UPLOAD_SIZE = 4 << 20
#: The idle timeout, which is the default in a soak, and a longer pause.
IDLE, STILL = ("30 s", 34) if SOAK > 1 else ("1 s", 2)

CURL = {
    "upload-file": ["--upload-file", "{file}", "--request", "POST"],
    "upload-stdin": ["--upload-file", "-", "--request", "POST"],
    "data-binary": ["--data-binary", "@{file}"],
    "form": ["--form", "file=@{file}"],
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of reproducible noise."""
    path = tmp_path_factory.mktemp("file") / "holiday.mp4"
    path.write_bytes(hashlib.shake_128(b"holiday").digest(SIZE))
    return path


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python interpreter with the clients installed."""
    path = tmp_path_factory.mktemp("python-clients")
    uv("venv", "--quiet", "--clear", f"--python={sys.executable}", str(path))
    uv("pip", "install", "--quiet", f"--python={path}", "aiotus", "tuspy")
    return Environment(path).python


@pytest.fixture(scope="module")
def origin(scripts: Path) -> Iterator[str]:
    """A web site with the page of the scripts, on another origin than the service."""
    with web_site(scripts) as address:
        yield address


@pytest.fixture(scope="module")
def page(scripts: Path, node: str, origin: str) -> str:
    """The URL of the page with Uppy."""
    subprocess.run([program("npm"), "run", "--silent", "build"], cwd=scripts, check=True)
    return f"{origin}/page.html"


@pytest.fixture
def command(client: str, request: pytest.FixtureRequest) -> list[str]:
    """The command of a client; installs the client if necessary."""

    class Fixtures(dict[str, Any]):
        __missing__ = staticmethod(request.getfixturevalue)

    return [word.format_map(Fixtures()) for word in CLIENTS[client].split()]


@pytest.fixture
def service(full: Project, environment: Environment, origin: str, tmp_path: Path) -> Iterator[int]:
    """The port of a service that allows the origin of the page."""
    with running(full, environment, tmp_path, CORS__ORIGINS=origin) as port:
        yield port


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_is_killed_half_way_resumes(
    client: str, command: list[str], file: Path, service: int, tmp_path: Path
) -> None:
    (tmp_path / "memory").mkdir()
    with Line(service) as line:
        run = [*command, line.url, str(file), str(tmp_path / "memory")]
        for death in range(1, KILLS + 1):
            line.carry_until(SIZE * death // (KILLS + 1))
            with subprocess.Popen(run) as process:
                try:
                    line.wait_until_dead(process, PATIENCE)
                finally:
                    DEATHS.get(client, subprocess.Popen.kill)(process)
            line.cut()
        line.carry_until(sys.maxsize)
        subprocess.run(run, check=True, timeout=PATIENCE)

    assert stored_in(service) == [sha256_of(file.open("rb"))]
    assert SIZE < line.carried < SIZE + (KILLS + 1) * SURPLUS


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with different files of noise."""
    (tmp_path / "memory").mkdir()
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(UPLOADS):
        data = hashlib.shake_128(f"{number}".encode()).digest(UPLOAD_SIZE)
        (folder / f"{number}.mp4").write_bytes(data)
    return folder


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("client", RETRYING)
def test_no_upload_fails_when_connections_die_and_the_workers_never_hear_of_it(
    client: str,
    workers: int,
    command: list[str],
    files: Path,
    bake_once: Bake,
    environment: Environment,
    origin: str,
    tmp_path: Path,
) -> None:
    settings = {"SERVER__WORKERS": str(workers), "CORS__ORIGINS": origin}
    least = UPLOAD_SIZE // 4
    # Events would need a broker with several workers.
    project = bake_once(use_realtime=False, auth="none")
    with (
        running(project, environment, tmp_path, **settings) as port,
        SilentLine(port, least=least, most=UPLOAD_SIZE) as line,
    ):
        wait_for_workers(port)
        run = [*command, line.url, str(files), str(tmp_path / "memory")]
        subprocess.run(run, check=True, timeout=PATIENCE)

        assert sorted(stored_in(port)) == digests_of(files)
        assert line.drops >= UPLOADS


@pytest.mark.parametrize(
    "client",
    [*(pytest.param(each, marks=pytest.mark.fault("F8")) for each in RETRYING[:2]), *RETRYING[2:]],
)
def test_no_upload_fails_when_its_connection_stalls_beyond_the_timeout(
    client: str,
    command: list[str],
    files: Path,
    full: Project,
    environment: Environment,
    origin: str,
    tmp_path: Path,
) -> None:
    settings = {"STREAMING__IDLE_TIMEOUT": IDLE, "CORS__ORIGINS": origin}
    with (
        running(full, environment, tmp_path, **settings) as port,
        StandingLine(port, after=UPLOAD_SIZE, seconds=STILL) as line,
    ):
        run = [*command, line.url, str(files), str(tmp_path / "memory")]
        subprocess.run(run, check=True, timeout=PATIENCE)

        assert sorted(stored_in(port)) == digests_of(files)


def wait_for_workers(port: int) -> None:
    """Wait until the service responds; several workers log the address before they listen."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=PATIENCE):
                return
        except URLError:
            assert time.monotonic() < end
            time.sleep(0.1)


def digests_of(folder: Path) -> list[str]:
    return sorted(sha256_of(path.open("rb")) for path in folder.iterdir())


@pytest.mark.parametrize("way", CURL)
def test_uploads_of_curl_are_stored(way: str, file: Path, service: int) -> None:
    words = [word.format(file=file) for word in CURL[way]]
    url = f"http://127.0.0.1:{service}/files"
    with file.open("rb") as source:
        subprocess.run(
            [program("curl"), "--silent", "--show-error", "--fail", *words, url],
            stdin=source, check=True, timeout=PATIENCE,
        )  # fmt: skip

    assert stored_in(service) == [sha256_of(file.open("rb"))]


def stored_in(port: int) -> list[str]:
    """Return the digests of all stored files."""
    with urlopen(f"http://127.0.0.1:{port}/files", timeout=PATIENCE) as listing:
        records = [json.loads(line) for line in listing]
    ids = [record["id"] for record in records if "id" in record]
    return [
        sha256_of(urlopen(f"http://127.0.0.1:{port}/files/{each}", timeout=PATIENCE))
        for each in ids
    ]


def sha256_of(source: BufferedIOBase) -> str:
    with source:
        return hashlib.file_digest(source, "sha256").hexdigest()
