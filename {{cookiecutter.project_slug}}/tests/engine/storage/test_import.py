"""`serve import`: only regular files, within the limits of uploads."""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.storage import FileRecord
from {{cookiecutter.package_name}}.engine.storage.part import open_storage
from {{cookiecutter.package_name}}.settings import Settings

from ..service import OWNER, make_settings

pytestmark = pytest.mark.fault("G42")


async def imported(settings: Settings, *paths: Path) -> tuple[Any, list[FileRecord]]:
    """Run the command; return its exit code and the stored files."""

    def run() -> Any:
        with pytest.raises(SystemExit) as exit_:
            command = create_app(settings).commands["import"]
            command(settings, [*OWNER, *map(str, paths)])
        return exit_.value.code

    code = await anyio.to_thread.run_sync(run)
    async with open_storage(settings.storage) as storage:
        return code, [record async for _, record in storage.records()]


def settings_of(folder: Path, **sections: dict[str, Any]) -> Settings:
    storage = {"url": f"file:{folder / 'data'}"} | sections.pop("storage", {})
    return make_settings(storage=storage, **sections)


async def test_only_regular_files_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has none of these")
    monkeypatch.chdir(tmp_path)  # The path of a socket must be short.
    (tmp_path / "a.txt").write_bytes(b"hello")
    (tmp_path / "link").symlink_to("a.txt")
    (tmp_path / "folder").mkdir()
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        others = [Path(name) for name in ("link", "folder", "fifo", "socket", os.devnull)]
        code, records = await imported(settings_of(tmp_path), *others, Path("a.txt"))

    assert (code, [record.filename for record in records]) == (1, ["a.txt"])
    told = capsys.readouterr().err.splitlines()
    assert told == [f"{path}: It is no regular file" for path in others]


async def test_a_quota_holds_for_imported_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    settings = settings_of(tmp_path, storage={"quota": 9})
    code, records = await imported(settings, *[tmp_path / "a.txt"] * 2)

    assert (code, len(records)) == (1, 1)
    assert "at most 9 bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("upload", "reason"),
    [
        ({"max_size": 4}, "at most 4 bytes"),
        ({"allowed_types": "image/*"}, "text/plain are not stored"),
    ],
)
async def test_the_limits_of_uploads_hold_for_imported_files(
    upload: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("{{cookiecutter.package_name}}.engine.upload")
    (tmp_path / "a.txt").write_bytes(b"hello")
    code, records = await imported(settings_of(tmp_path, upload=upload), tmp_path / "a.txt")

    assert (code, records) == (1, [])
    assert reason in capsys.readouterr().err
