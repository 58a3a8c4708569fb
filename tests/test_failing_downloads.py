"""A download that fails half-way is an error for curl, with all kinds of requests."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from baking import Project
from downloads import PATIENCE, store
from environment import Environment
from running import running
from tools import program

ORIGIN = "https://app.example.com"
SIZE = 8 << 20
#: Exit codes of curl: a part of the body is missing, and the connection was reset.
BROKEN = {18, 56}

ASKED = {
    "plainly": [],
    "compressed": ["--compressed"],
    "by a page": ["--header", f"Origin: {ORIGIN}"],
    "by a page, compressed": ["--header", f"Origin: {ORIGIN}", "--compressed"],
}
VERSIONS = ["--http1.1", "--http1.0"]
MEDIA_TYPES = ["application/jsonl", "text/csv", "text/plain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def service(full: Project, environment: Environment, folder: Path) -> Iterator[int]:
    with running(full, environment, folder, CORS__ORIGINS=ORIGIN) as port:
        yield port


@pytest.fixture(scope="module")
def shortened(service: int, folder: Path) -> str:
    """A stored file whose second half has been lost on the disk."""
    path = folder / "file.bin"
    path.write_bytes(os.urandom(SIZE))
    stored = store(service, path)
    (found,) = folder.glob(f"data/files/*/{stored.id}")
    os.truncate(found, SIZE // 2)
    return f"/files/{stored.id}"


def curl(port: int, path: str, *words: str) -> "subprocess.CompletedProcess[bytes]":
    url = f"http://127.0.0.1:{port}{path}"
    command = [program("curl"), "--silent", "--fail", *words, url]
    return subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("asked", ASKED)
def test_an_export_whose_source_fails_half_way(
    asked: str, version: str, media_type: str, service: int
) -> None:
    path = "/exports/lines?count=10000&fail_after=5000"
    done = curl(service, path, version, "--header", f"Accept: {media_type}", *ASKED[asked])

    assert done.returncode in BROKEN
    assert b"line 1" in done.stdout
    assert b"line 5001" not in done.stdout


@pytest.mark.parametrize("part", [None, "1000-", f"{SIZE // 4}-{SIZE - 1}"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("asked", ASKED)
def test_a_file_that_is_shorter_than_it_was(
    asked: str, version: str, part: str | None, service: int, shortened: str
) -> None:
    ranged = ["--range", part] if part else []
    done = curl(service, shortened, version, *ranged, *ASKED[asked])

    assert done.returncode in BROKEN
    assert 0 < len(done.stdout) <= SIZE // 2
