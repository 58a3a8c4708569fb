"""File systems that cannot lock, as some network file systems.

`sitecustomize`, which Python imports first, replaces `flock` in the processes of the service.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from {{cookiecutter.package_name}}.settings import Settings

from ..peer import PATIENCE
from ..service import OWNER, ServiceProcess

pytestmark = pytest.mark.local

pytest.importorskip("fcntl")

Break = Callable[[str, int], Path]

#: While the file at MARK exists, a call fails after a pause, which limits loops of such calls.
BROKEN = """
import fcntl, os, time

def broken(real):
    def call(*arguments, **options):
        if not os.path.exists({mark!r}) or not concerns(arguments[0]):
            return real(*arguments, **options)
        time.sleep(0.02)
        if {number}:
            raise OSError({number}, os.strerror({number}))
    return call

def concerns(file):
    return isinstance(file, int) or os.fspath(file).endswith(".lock")

{name} = broken({name})
"""


@pytest.fixture
def break_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Break:
    """Return a function that makes a call fail in new processes while the returned path exists."""

    def put(name: str, number: int) -> Path:
        (tmp_path / "python").mkdir()
        mark = tmp_path / "broken"
        source = BROKEN.format(name=name, number=number, mark=str(mark))
        (tmp_path / "python" / "sitecustomize.py").write_text(source)
        path = os.pathsep.join([str(tmp_path / "python"), os.environ.get("PYTHONPATH", "")])
        monkeypatch.setenv("PYTHONPATH", path)
        return mark

    return put


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `serve` with arguments that make it exit."""
    settings = {"APP_STORAGE__URL": "file:data", "APP_SERVER__PORT": "0", **environment}
    try:
        return subprocess.run(
            [sys.executable, "-m", "{{cookiecutter.package_name}}", *arguments],
            cwd=directory,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as running:
        raise AssertionError(f"it has not ended: {running.stderr!r}") from None


async def status_of(client: httpx.AsyncClient, method: str, path: str, body: bytes = b"") -> int:
    try:
        return (await client.request(method, path, content=body)).status_code
    except httpx.TimeoutException:
        raise AssertionError(f"{method} {path} is never answered") from None


def imported(directory: Path) -> str:
    """Store a file in a directory, and return its id."""
    (directory / "a.txt").write_bytes(b"hello")
    ended = run(directory, "import", *OWNER, "a.txt")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()[0]


def locks(directory: Path) -> list[str]:
    return [path.name for path in (directory / "data").rglob("*.lock")]


@pytest.mark.fault("F17")
@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ([], errno.ENOSYS),
        ([], errno.EAGAIN),
        (["import", *OWNER, "a.txt"], errno.ENOLCK),
        (["import", *OWNER, "a.txt"], errno.EOPNOTSUPP),
    ],
)
@pytest.mark.slow
def test_a_directory_without_locks_is_refused_in_one_line(
    tmp_path: Path, break_call: Break, arguments: list[str], number: int
) -> None:
    break_call("fcntl.flock", number).touch()
    (tmp_path / "a.txt").write_bytes(b"hello")

    ended = run(tmp_path, *arguments)

    [line] = ended.stderr.splitlines()
    assert line.startswith("APP_STORAGE__URL: file:data cannot be used: files cannot be locked")
    assert ended.returncode == 1
    assert locks(tmp_path) == []


@pytest.mark.fault("F17")
@pytest.mark.slow
def test_the_line_tells_the_reason(tmp_path: Path, break_call: Break) -> None:
    break_call("fcntl.flock", errno.ENOSYS).touch()

    assert os.strerror(errno.ENOSYS) in run(tmp_path).stderr


@pytest.mark.fault("F17")
@pytest.mark.slow
def test_locks_that_exclude_nobody_are_refused_too(tmp_path: Path, break_call: Break) -> None:
    break_call("fcntl.flock", 0).touch()

    ended = run(tmp_path)

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "does not exclude others" in ended.stderr


@pytest.mark.slow
def test_it_is_refused_before_there_are_several_workers(tmp_path: Path, break_call: Break) -> None:
    several = {"APP_SERVER__WORKERS": "2"}
    if "realtime" in Settings.model_fields:  # Several workers need a broker.
        redis = "{{cookiecutter.package_name}}.engine.realtime.backends.redis"
        pytest.importorskip(redis)
        several["APP_REALTIME__BROKER_URL"] = "redis://127.0.0.1:1"
    break_call("fcntl.flock", errno.ENOSYS).touch()

    ended = run(tmp_path, **several)

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.fault("F17")
@pytest.mark.slow
def test_a_directory_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").touch()

    ended = run(tmp_path)

    [line] = ended.stderr.splitlines()
    assert line.startswith("APP_STORAGE__URL: file:data cannot be used: ")
    assert ended.returncode == 1


@pytest.mark.fault("F17")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EAGAIN])
@pytest.mark.slow
async def test_an_upload_is_answered_when_locks_are_lost(
    tmp_path: Path, break_call: Break, number: int
) -> None:
    pytest.importorskip("{{cookiecutter.package_name}}.engine.upload")
    mark = break_call("fcntl.flock", number)
    async with ServiceProcess(tmp_path) as process, process.client() as client:
        mark.touch()
        assert await status_of(client, "POST", "/files", b"hello") == 500
        assert len(locks(tmp_path)) <= 5
        mark.unlink()
        assert await status_of(client, "POST", "/files", b"hello") == 201
        process.terminate()
        assert await process.exit_code() == 0


@pytest.mark.fault("F17")
@pytest.mark.slow
async def test_a_deletion_is_answered_when_locks_are_lost(
    tmp_path: Path, break_call: Break
) -> None:
    mark = break_call("fcntl.flock", errno.ENOLCK)
    file_id = imported(tmp_path)
    async with ServiceProcess(tmp_path) as process, process.client() as client:
        mark.touch()
        assert await status_of(client, "DELETE", f"/files/{file_id}") == 500
        assert locks(tmp_path) == []
        mark.unlink()
        assert await status_of(client, "DELETE", f"/files/{file_id}") == 204


@pytest.mark.fault("F17", "G39")
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.slow
async def test_a_lock_file_that_cannot_be_removed_keeps_nobody_from_the_file(
    tmp_path: Path, break_call: Break, number: int
) -> None:
    pytest.importorskip("{{cookiecutter.package_name}}.engine.upload")
    mark = break_call("os.unlink", number)
    async with (
        ServiceProcess(tmp_path) as process,
        ServiceProcess(tmp_path) as another,
        process.client() as client,
        another.client() as other,
    ):
        mark.touch()
        ids = []
        for _ in range(2):
            response = await client.post("/files", content=b"hello")
            assert response.status_code == 201
            ids.append(response.json()["id"])
        assert await status_of(client, "DELETE", f"/files/{ids[0]}") == 204
        assert await status_of(other, "DELETE", f"/files/{ids[1]}") == 204
    mark.unlink()
    async with ServiceProcess(tmp_path):
        assert locks(tmp_path) == []  # The recovery removes unlocked claims.
