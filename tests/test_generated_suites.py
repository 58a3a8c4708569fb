"""Every set of modules passes the tests, the type check and the layer check that it comes with.

All run in one environment, which has the dependencies of every module; that a project declares the
ones it uses is a promise of the matrix. Tests marked `slow` start processes, or move much: they run
with each module alone and with all of them; a soak runs them with every set.
"""

import os
import shutil
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest

from answers import EVERYTHING, MODULES, SUBSETS, Answers, name_of, only
from baking import Bake, Project
from environment import Environment

ALL = tuple(MODULES)
#: Each module alone, all of them, and pairs in which every module meets another one.
TYPED = [
    *[(module,) for module in MODULES],
    ("use_upload", "use_download"),
    ("use_download", "use_realtime"),
    ("use_upload", "use_error_handling"),
    ALL,
]
#: Seconds for one suite on a busy machine; a soak is meant to take long.
PATIENCE = 6 * 3600 if os.environ.get("SOAK") else 1200


def answers_of(subset: tuple[str, ...]) -> Answers:
    """Return the answers for a set of modules; for all of them, what brings the most."""
    return only(*subset) | (EVERYTHING if subset == ALL else {})


@dataclass(frozen=True)
class Suite:
    """How a test suite ended."""

    code: int
    tests: int
    skipped: list[str]


def run_suite(environment: Environment, project: Project, report: Path, chosen: str) -> Suite:
    """Run the tests that `chosen`, an expression of marks, holds for."""
    # A folder of its own: those that pytest shares are removed by whichever suite ends first.
    files = report.parent / "files"
    done = environment.run(
        project, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}",
        f"--basetemp={files}", "-m", chosen,
        timeout=PATIENCE, PYTHONDONTWRITEBYTECODE="",  # They start the service many times.
    )  # fmt: skip
    shutil.rmtree(files, ignore_errors=True)  # A gigabyte.
    cases = ET.parse(report).findall(".//testcase") if report.exists() else []
    skipped = [str(case.get("name")) for case in cases if case.find("skipped") is not None]
    return Suite(done.returncode, len(cases), skipped)


@pytest.mark.parametrize("subset", SUBSETS, ids=name_of)
def test_every_set_of_modules_passes_its_own_tests(
    subset: tuple[str, ...], bake: Bake, environment: Environment, tmp_path: Path
) -> None:
    project = bake(**answers_of(subset))

    every = len(subset) in (1, len(ALL)) or "SOAK" in os.environ
    suite = run_suite(environment, project, tmp_path / "report.xml", "" if every else "not slow")

    assert suite.code == 0
    assert suite.tests > len(suite.skipped)
    if subset == ALL and suite.skipped:
        # Smaller sets skip what they lack; here everything is there, or the machine lacks it.
        pytest.skip(f"the tests of the full project skip {suite.skipped}")


@pytest.mark.parametrize("subset", TYPED, ids=name_of)
def test_the_types_of_a_project_are_sound(
    subset: tuple[str, ...],
    bake: Bake,
    environment: Environment,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    project = bake(**answers_of(subset))
    # Two processes must not write to one cache; within one, it knows the dependencies.
    cache = tmp_path_factory.getbasetemp() / "mypy"

    checked = environment.run(project, "mypy", "--strict", f"--cache-dir={cache}")

    assert checked.returncode == 0


@pytest.mark.parametrize("subset", TYPED, ids=name_of)
def test_the_layers_of_a_project_hold(
    subset: tuple[str, ...], bake: Bake, environment: Environment
) -> None:
    project = bake(**answers_of(subset))

    checked = environment.run(project, "lint-imports", "--no-cache")

    assert checked.returncode == 0
    assert "0 broken" in checked.stdout
