"""Run programs and tools, including those in the environment of the tests."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a tool."""

    code: int
    output: str = field(repr=False)


def run(tool: str, *arguments: str | Path, cwd: Path | None = None) -> Outcome:
    """Run a tool; a machine on which it is not installed skips the test."""
    # Tools call each other: actionlint runs shellcheck for the scripts of workflows.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [program(tool, path=path), *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    sys.stdout.write(done.stdout)  # pytest shows it when the test fails
    return Outcome(done.returncode, done.stdout)


def program(*names: str, path: str | None = None) -> str:
    """Return the path of a program; a machine without it skips the test."""
    found = next((each for name in names if (each := shutil.which(name, path=path))), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed")
    return found
