"""The tests of the traps fail on a service that is written like the tutorials."""

import dataclasses
import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from baking import Project
from environment import Environment
from marked import cases_of, run_marked

NAIVE = Path(__file__).parent / "naive"
#: Errors that prove no trap: the naive service lacks a function that the test needs.
NO_TRAP = re.compile(
    r"(AttributeError|ImportError|NameError|AssertionError: the service did not start)"
)


@pytest.fixture
def naive(full: Project, tmp_path: Path) -> Project:
    """The full project, with the tutorials' code in place of the template's code."""
    shutil.copytree(full.path, tmp_path / "naive")
    project = dataclasses.replace(full, path=tmp_path / "naive")
    shutil.copytree(NAIVE / "service", project.src, dirs_exist_ok=True)
    shutil.copytree(NAIVE / "tests", project.path / "tests", dirs_exist_ok=True)
    return project


@pytest.mark.long
def test_every_test_of_a_trap_fails_on_the_naive_service(
    naive: Project, environment: Environment
) -> None:
    failures: dict[str, list[str]] = defaultdict(list)
    unknown: set[str] = set()
    for case in cases_of(run_marked(naive, environment, "trap")):
        failed = case.findall(
            "failure"
        )  # A failure in the test; failures in fixtures are an `error`.
        name = f"{case.get('classname')}.{case.get('name')}"
        failures[name] += [str(each.get("message")) for each in failed]
        unknown |= set(re.findall("no such route: .*", "".join(case.itertext())))
    assert len(failures) > 50
    assert [name for name, found in failures.items() if not found] == [], "these pass, or never ran"
    beside = {name: found for name, found in failures.items() if NO_TRAP.match(found[0])}
    assert (beside, unknown) == ({}, set()), "the naive service lacks what these ask for"


def test_in_process_clients_see_no_trap(naive: Project, environment: Environment) -> None:
    files = naive.path.parent / "in_process"
    command = ["python", "-m", "pytest", f"--basetemp={files}", "tests/engine/in_process.py"]
    ran = environment.run(naive, *command)

    assert ran.returncode == 0
