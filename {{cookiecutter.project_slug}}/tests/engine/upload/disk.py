"""A real disk of 4 MiB, for uploads that fill it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import httpx
import pytest

SIZE = 4 << 20


@contextmanager
def small_disk(path: Path, inodes: int = 0) -> Iterator[Path]:
    """Mount a file system in memory until the block ends; Linux and root only.

    It has `inodes` inodes, or any number.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and root to mount a disk")
    path.mkdir()
    if run("mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={inodes}", "tmpfs", str(path)):
        pytest.skip("this machine does not allow mounts")
    try:
        yield path
    finally:
        run("umount", "--lazy", str(path))


def run(program: str, *arguments: str) -> int:
    return subprocess.run([program, *arguments], capture_output=True, check=False).returncode


def free(disk: Path) -> int:
    return shutil.disk_usage(disk).free


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill the disk except for `leave` bytes; return the file to delete for space."""
    filler = disk / "filler"
    filler.write_bytes(bytes(free(disk) - leave))
    return filler


def take_inodes(disk: Path) -> None:
    """Create empty files until there is no inode for another one."""
    (disk / "taken").mkdir(exist_ok=True)
    with suppress(OSError):
        for number in count():
            (disk / "taken" / str(number)).touch()


def is_full(answer: httpx.Response) -> bool:
    """Whether a response reports a full disk, with or without problem documents."""
    return answer.status_code == 507 and "space" in answer.json()["detail"]
