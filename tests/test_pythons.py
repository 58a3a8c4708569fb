"""A project works on every Python that it supports, of those that the machine has.

The Python of these tests runs everything. The others run the tests of the owner, the types, and
those tests of the engine that depend on the interpreter most; a soak runs all.
"""

import os
import sys
from pathlib import Path

import pytest

from baking import Project
from environment import Environment, environment_for, python_of
from test_generated_suites import ENGINE, run_suite

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [each for each in ("3.11", "3.12", "3.13", "3.14") if each != RUNNING]
#: Files, databases, threads, signals and the log.
PART = ["-m", "not slow", *(f"{ENGINE}/{name}" for name in ("storage", "observability", "errors"))]

pytestmark = [
    pytest.mark.parametrize("version", OTHERS),
    pytest.mark.platform_only("a machine need not have every Python"),
]


@pytest.fixture
def other(version: str, full: Project) -> Environment:
    """Install what a project needs for another Python."""
    python = python_of(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    return environment_for(full, python=python)


@pytest.mark.fault("G32")
@pytest.mark.parametrize(
    "tests", [["tests"], [ENGINE] if "SOAK" in os.environ else PART], ids=["owner", "engine"]
)
def test_the_tests_of_a_project_pass_on_another_python(
    tests: list[str], full: Project, other: Environment, tmp_path: Path
) -> None:
    suite = run_suite(other, full, tmp_path / "report.xml", *tests)

    assert suite.code == 0
    assert len(suite.tests) > len(suite.skipped)


@pytest.mark.fault("G32")
def test_the_types_of_a_project_are_right_on_another_python(
    full: Project, other: Environment, tmp_path: Path
) -> None:
    done = other.run(full, "mypy", f"--cache-dir={tmp_path}")

    assert done.returncode == 0
