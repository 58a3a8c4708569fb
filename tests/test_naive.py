"""The tests of the traps fail on a service as the tutorials write it: they test what they say."""

import dataclasses
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import pytest

from baking import Project
from environment import Environment

NAIVE = Path(__file__).parent / "naive"
#: What shows no trap: the naive service lacks what the test asks for, and has to get it.
NO_TRAP = re.compile(
    r"(AttributeError|ImportError|NameError|AssertionError: the service did not start)"
)


@pytest.fixture
def naive(full: Project, tmp_path: Path) -> Project:
    """The full project, with the tutorials' code in the places of ours, and their tests."""
    shutil.copytree(full.path, tmp_path / "naive")
    project = dataclasses.replace(full, path=tmp_path / "naive")
    shutil.copytree(NAIVE / "service", project.src, dirs_exist_ok=True)
    shutil.copytree(NAIVE / "tests", project.path / "tests", dirs_exist_ok=True)
    return project


def test_every_test_of_a_trap_fails_on_the_naive_service(
    naive: Project, environment: Environment
) -> None:
    # Each in its own body: what one leaves behind must not fail the next one.
    alone = ["-p", "no:unraisableexception", "-p", "no:threadexception"]
    report = ["--tb=no", "--junitxml=traps.xml", "-o", "junit_logging=all"]
    command = ["python", "-m", "pytest", "-m", "trap", *alone, *report]
    ran = environment.run(naive, *command, timeout=1800, PATIENCE="2")

    failures: dict[str, list[str]] = defaultdict(list)
    unknown: set[str] = set()
    for case in ElementTree.parse(naive.path / "traps.xml").iter("testcase"):
        failed = case.findall("failure")  # In the test itself; elsewhere it is an `error`.
        name = f"{case.get('classname')}.{case.get('name')}"
        failures[name] += [str(each.get("message")) for each in failed]
        unknown |= set(re.findall("no such route: .*", "".join(case.itertext())))
    assert len(failures) > 50, ran.stdout
    assert [name for name, found in failures.items() if not found] == [], "these pass, or never ran"
    beside = {name: found for name, found in failures.items() if NO_TRAP.match(found[0])}
    assert (beside, unknown) == ({}, set()), "the naive service lacks what these ask for"


def test_in_process_clients_see_no_trap(naive: Project, environment: Environment) -> None:
    ran = environment.run(naive, "python", "-m", "pytest", "tests/in_process.py")

    assert ran.returncode == 0
