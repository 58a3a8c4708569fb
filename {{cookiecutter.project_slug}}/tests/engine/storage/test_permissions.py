"""The permissions of files: by default only the user of the service may read them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ..service import OWNER, ServiceProcess

pytestmark = [
    pytest.mark.local,
    pytest.mark.fault("G38"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions"),
    pytest.mark.slow,
]


def permissions(root: Path) -> dict[str, int]:
    """Return the permissions of everything in a directory, and of the directory itself."""
    paths = [root, *root.rglob("*")]
    return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in paths}


def store(folder: Path, **environment: str) -> None:
    """Run `serve import`."""
    (folder / "a.txt").write_bytes(b"hello")
    arguments = ["import", *OWNER, "a.txt"]
    command = [sys.executable, "-m", "{{cookiecutter.package_name}}", *arguments]
    settings = {f"APP_{name}": value for name, value in environment.items()}
    subprocess.run(command, cwd=folder, env={**os.environ, **settings}, check=True)


async def stored(folder: Path, **environment: str) -> dict[str, int]:
    """Store a file, and return the permissions while the service runs."""
    store(folder, **environment)
    async with ServiceProcess(folder, **environment):
        return permissions(folder / "data")


@pytest.mark.parametrize(
    ("umask", "file", "directory"), [({}, 0o600, 0o700), ({"SERVER__UMASK": "027"}, 0o640, 0o750)]
)
async def test_new_files_and_directories_have_the_permissions_of_the_setting(
    umask: dict[str, str], file: int, directory: int, tmp_path: Path
) -> None:
    found = await stored(tmp_path, **umask)

    assert {"catalogue.sqlite3-wal", "catalogue.sqlite3-shm"} <= found.keys()
    for name, mode in found.items():
        assert mode == (directory if (tmp_path / "data" / name).is_dir() else file), name


async def test_a_directory_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    await stored(tmp_path, SERVER__UMASK="022")
    found = await stored(tmp_path)

    assert (found["."], found["catalogue.sqlite3"], found["files"]) == (0o700, 0o600, 0o755)


def test_an_import_closes_such_a_directory_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    store(tmp_path)

    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
