"""Uploads and files in the demo page, in a browser: also across a crash of the service."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
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

    (offset,) = shown.pop("offsets")
    assert 0 < offset < SIZES["big.bin"]
    assert " MB/s · " in shown.pop("about")
    assert max(shown.pop("starts")) > (tmp_path / "tone.wav").stat().st_size / 2
    assert TEXT.startswith(text := shown.pop("text"))
    assert len(text.encode()) == 64 << 10
    assert shown == {
        "gone": 404,
        "unfinished": ["big.bin"],
        "kept": [],
        "width": 1,
        "seeked": pytest.approx(0.9),
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
    assert same == {"big.bin": True, "away.bin": True}
    downloads = tmp_path / "downloads"
    assert (downloads / "Größe 2.txt").read_text("utf-8") == TEXT
    with ZipFile(downloads / "archive.zip") as archive:
        assert sorted(archive.namelist()) == ["notes.txt", "picture.png"]


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

    def get(path: str) -> Any:
        request = Request(f"http://127.0.0.1:{port}{path}", headers={"X-API-Key": key})
        return urlopen(request, timeout=PATIENCE)

    with get("/files") as listing:
        records = [record for record in map(json.loads, listing) if "id" in record]
    digests = dict[str, str]()
    for record in records:
        with get(f"/files/{record['id']}") as response:
            digests[record["filename"]] = hashlib.file_digest(response, "sha256").hexdigest()
    return digests


def conversation(command: list[str | Path], answers: dict[str, Callable[[], None]]) -> Any:
    """Run a script that asks for actions by their names, and return the JSON that it prints."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() not in answers:
                return json.loads(line)
            answers[line.strip()]()
            process.stdin.write("\n")
            process.stdin.flush()
    raise AssertionError("The script ended early.")
