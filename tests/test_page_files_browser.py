"""Uploads and files in the demo page, in a browser: also across a crash of the service."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from baking import Project
from downloads import PATIENCE
from environment import Environment
from running import LINK, RUNNING, free_port, started
from test_download_browser import PNG, write_wav

#: Bytes of files of noise, which nothing can compress.
SIZES = {"big.bin": 200 << 20, "away.bin": 30 << 20, "small.bin": 20 << 20}
TEXT = "Größe\n" * 20_000
SHOWN = {
    "gone": 404,
    "unfinished": ["big.bin"],
    "claims": 1,
    "kept": [],
    "width": 1,
    "seeked": pytest.approx(0.9),
    "mixed": 0,
    "renamed": "Größe 2.txt",
    "archive": "archive.zip",
    "spared": True,
    "isTooWide": False,
    "plain": {"controls": ["Cancel"], "appends": 0},
    "before": 1,
    "left": 0,
    "leaks": [],
    "errors": [],
}


def test_an_upload_continues_after_a_crash_and_a_reload_and_files_are_shown_renamed_and_deleted(
    complete: Project,
    environment: Environment,
    node: str,
    scripts: Path,
    chromium: str,
    tmp_path: Path,
) -> None:
    digests = write_files(tmp_path)
    port = {"SERVER__PORT": str(free_port())}
    same = dict[str, bool]()
    with ExitStack() as stack:
        service = stack.enter_context(started(complete, environment, tmp_path, LINK, **port))
        key = service.line.partition("key=")[2]

        def kill() -> None:
            service.process.kill()
            service.process.wait()

        def start() -> None:
            stack.enter_context(started(complete, environment, tmp_path, RUNNING, **port))

        def compare() -> None:
            stored = digests_of_files(service.port, key)
            same.update({name: stored[name] == digest for name, digest in digests.items()})

        shown = conversation(
            [node, scripts / "page_files.mjs", chromium, service.line, tmp_path],
            {"kill": kill, "start": start, "compare": compare},
        )

    assert same == {"big.bin": True, "away.bin": True}
    check_variable(shown, tmp_path)
    assert shown == SHOWN
    downloads = tmp_path / "downloads"
    assert (downloads / "Größe 2.txt").read_text("utf-8") == TEXT
    with ZipFile(downloads / "archive.zip") as archive:
        assert sorted(archive.namelist()) == ["notes.txt", "picture.png"]


def check_variable(shown: dict[str, Any], folder: Path) -> None:
    """Check the results that differ in each run, and remove them."""
    (offset,) = shown.pop("offsets")
    assert 0 < offset < SIZES["big.bin"]
    assert " MB/s · " in shown.pop("about")
    assert max(shown.pop("starts")) > (folder / "tone.wav").stat().st_size / 2
    assert TEXT.startswith(text := shown.pop("text"))
    assert len(text.encode()) == 64 << 10


def write_files(folder: Path) -> dict[str, str]:
    """Write the files that the script uploads, and return the digests of the resumed ones."""
    (folder / "picture.png").write_bytes(PNG)
    (folder / "notes.txt").write_text(TEXT, "utf-8")
    write_wav(folder / "tone.wav", 32)
    digests = dict[str, str]()
    for name, size in SIZES.items():
        data = os.urandom(size)
        (folder / name).write_bytes(data)
        digests[name] = hashlib.sha256(data).hexdigest()
    del digests["small.bin"]
    return digests


def digests_of_files(port: int, key: str) -> dict[str, str]:
    """Download the files of the service, and return their digests by name."""

    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def get(path: str) -> HTTPResponse:
        connection.request("GET", path, headers={"X-API-Key": key})
        return connection.getresponse()

    with closing(connection):
        *records, _ = [json.loads(line) for line in get("/files").read().splitlines()]
        digests = dict[str, str]()
        for record in records:
            content = get(f"/files/{record['id']}")
            digests[record["filename"]] = hashlib.file_digest(content, "sha256").hexdigest()
    return digests


def conversation(
    command: list[str | Path], answers: dict[str, Callable[[], None]]
) -> dict[str, Any]:
    """Run a script that asks for actions by their names, and return the JSON that it prints."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() not in answers:
                printed: dict[str, Any] = json.loads(line)
                return printed
            answers[line.strip()]()
            process.stdin.write("\n")
            process.stdin.flush()
    raise AssertionError("The script ended early.")
