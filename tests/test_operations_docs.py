"""The backup script of docs/operations.md works while files are being stored."""

import json
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread

import pytest

from answers import REPOSITORY
from baking import TEMPLATE_FOLDER, Project
from environment import Environment
from running import running

PAGE = (REPOSITORY / TEMPLATE_FOLDER / "docs/operations.md").read_text("utf-8")
SIZE = 100_000
TUS = {"Tus-Resumable": "1.0.0"}


def ask(
    port: int, method: str, path: str, body: bytes = b"", fields: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, fields or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


def store(port: int, number: int) -> str:
    """Store a file that consists of a repeated number, and return its id."""
    status, _, record = ask(port, "POST", "/files", b"%d " % number * (SIZE // 4))
    assert status == 201
    return str(json.loads(record)["id"])


def listed(port: int) -> list[str]:
    """Return the ids of all files, after reading each to its end."""
    *lines, end = ask(port, "GET", "/files")[2].splitlines()
    assert json.loads(end) == {"$end": {"count": len(lines)}}
    records = [json.loads(line) for line in lines]
    for record in records:
        status, _, body = ask(port, "GET", f"/files/{record['id']}")
        assert (status, len(body)) == (200, record["size"])
        assert len(set(body.split())) == 1
    return [str(record["id"]) for record in records]


@pytest.fixture
def back_up(environment: Environment, tmp_path: Path) -> list[str | Path]:
    """Return the command of the page."""
    (script,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "backup.py").write_text(script, "utf-8")
    words = [tmp_path / "backup.py", tmp_path / "one/data", tmp_path / "backup"]
    return [environment.python, *words]


def test_a_backup_of_a_busy_service_has_every_file_that_was_stored_before(
    back_up: list[str | Path], full: Project, environment: Environment, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    done = Event()

    with running(full, environment, one) as port:

        def write() -> None:
            number = 1000
            while not done.is_set():
                ask(port, "DELETE", f"/files/{store(port, number)}")
                store(port, number + 1)
                number += 2

        _, upload, _ = ask(port, "POST", "/uploads", fields={"Upload-Length": "5", **TUS})
        deleted, *before = [store(port, number) for number in range(5)]
        subprocess.run(back_up, check=True)
        ask(port, "DELETE", f"/files/{deleted}")
        writer = Thread(target=write)
        writer.start()
        subprocess.run(back_up, check=True)
        done.set()
        writer.join()
    shutil.copytree(tmp_path / "backup", other / "data")

    with running(full, environment, other) as port:
        assert set(before) <= set(listed(port))
        assert deleted not in listed(port)
        unfinished = "/uploads/" + upload["location"].rpartition("/")[2]
        assert ask(port, "HEAD", unfinished, fields=TUS)[0] in (404, 410)
        assert store(port, 1) in listed(port)


def test_a_backup_keeps_the_bytes_of_its_records_and_no_others(
    back_up: list[str | Path], full: Project, environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    with running(full, environment, tmp_path / "one") as port:
        kept, deleted = store(port, 1), store(port, 2)
        subprocess.run(back_up, check=True)
        ask(port, "DELETE", f"/files/{deleted}")
        subprocess.run(back_up, check=True)

    assert [path.name for path in (tmp_path / "backup/files").glob("*/*")] == [kept]
    with closing(sqlite3.connect(tmp_path / "backup/catalogue.sqlite3")) as catalogue:
        assert catalogue.execute("SELECT id FROM files").fetchall() == [(kept,)]
        assert catalogue.execute("PRAGMA user_version").fetchone() > (0,)
