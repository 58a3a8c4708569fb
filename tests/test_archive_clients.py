"""Common programs unpack an archive from a pipe, while it arrives."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from baking import Project
from downloads import PATIENCE, store
from environment import Environment, uv
from running import running
from tools import program

CONTENTS = {
    "first.txt": b"first\n" * 1000,
    "empty": b"",
    "größe €.bin": hashlib.shake_128(b"large").digest(5 << 20),
    "PK.txt": b"PK\3\4PK\7\x08" * 500,  # The marks of the format.
}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}


@pytest.fixture(scope="module")
def archive(
    full: Project, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of an archive of these files, without its scheme."""
    folder = tmp_path_factory.mktemp("archive")
    with running(full, environment, folder) as port:
        ids = []
        for name, content in CONTENTS.items():
            (folder / "file").write_bytes(content)
            ids.append(store(port, folder / "file", name).id)
        yield f"127.0.0.1:{port}/archive?id={'&id='.join(ids)}"


def piped(archive: str, *command: str | Path, **variables: str) -> bytes:
    """Send an archive to the input of a program; return its output."""
    with urlopen(f"http://{archive}", timeout=PATIENCE) as response:
        assert response.headers["Accept-Ranges"] == "bytes"
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **variables},
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):  # funzip needs only the first file.
                shutil.copyfileobj(response, process.stdin)
                process.stdin.close()
            output = process.stdout.read()
    assert process.returncode == 0
    return output


def listed(output: bytes) -> dict[str, str]:
    lines = [line.rpartition(" ") for line in output.decode().splitlines()]
    return {name: digest for name, _, digest in lines}


@pytest.mark.fault("G26")
def test_java_reads_an_archive_from_a_pipe(archive: str) -> None:
    source = Path(__file__).parent / "clients/ReadZip.java"

    assert listed(piped(archive, program("java"), source)) == DIGESTS


@pytest.mark.fault("G26")
def test_stream_unzip_reads_an_archive_from_a_pipe(
    archive: str, scripts: Path, tmp_path: Path
) -> None:
    path = tmp_path / "python"
    uv("venv", "--quiet", f"--python={sys.executable}", str(path))
    uv("pip", "install", "--quiet", f"--python={path}", "stream-unzip")
    python = Environment(path).python

    assert listed(piped(archive, python, scripts / "stream_unzip_client.py")) == DIGESTS


@pytest.mark.fault("G26")
def test_bsdtar_unpacks_an_archive_from_a_pipe(archive: str, tmp_path: Path) -> None:
    piped(archive, program("bsdtar"), "-xf", "-", "-C", tmp_path, LC_ALL="C.UTF-8")

    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == CONTENTS


@pytest.mark.fault("G26")
def test_funzip_unpacks_the_first_file_from_a_pipe(archive: str) -> None:
    assert piped(archive, program("funzip")) == CONTENTS["first.txt"]
