"""The tests of the traps fail on a service as the tutorials write it: they test what they say."""

import dataclasses
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

import pytest

from baking import Project
from environment import Environment

NAIVE = Path(__file__).parent / "naive"
#: What shows no trap: the naive service lacks what the test asks for, and has to get it.
NO_TRAP = re.compile(
    r"(AttributeError|ImportError|NameError|AssertionError: the service did not start)"
)

#: Of the tests, each run beside the others.
PARTS = [
    "tests/test_*.py", "tests/observability", "tests/errors", "tests/storage", "tests/upload",
    "tests/resumable", "tests/download", "tests/realtime/test_[a-q]*.py",
    "tests/realtime/test_[r-z]*.py",
]  # fmt: skip
SAFE = str.maketrans("/*[]", "____")


@pytest.fixture
def naive(full: Project, tmp_path: Path) -> Project:
    """The full project, with the tutorials' code in the places of ours, and their tests."""
    shutil.copytree(full.path, tmp_path / "naive")
    project = dataclasses.replace(full, path=tmp_path / "naive")
    shutil.copytree(NAIVE / "service", project.src, dirs_exist_ok=True)
    shutil.copytree(NAIVE / "tests", project.path / "tests", dirs_exist_ok=True)
    return project


def run_traps(
    naive: Project, environment: Environment, part: str
) -> "ElementTree.ElementTree[ElementTree.Element]":
    """Run the marked tests of some files, and return pytest's report."""
    tests = sorted(str(path.relative_to(naive.path)) for path in naive.path.glob(part))
    report = f"{part.translate(SAFE)}.xml"
    files = naive.path.parent / part.translate(SAFE)  # pytest's own removes what others still use.
    # Each in its own body: what one leaves behind must not fail the next one.
    alone = ["-p", "no:unraisableexception", "-p", "no:threadexception", "-p", "no:cacheprovider"]
    written = ["--tb=no", f"--junitxml={report}", "-o", "junit_logging=system-out"]
    options = ["-m", "trap", f"--basetemp={files}", *alone, *written]
    command = ["python", "-m", "pytest", *options, *tests]
    environment.run(naive, *command, timeout=1800, PATIENCE="2")
    return ElementTree.parse(naive.path / report)


def test_every_test_of_a_trap_fails_on_the_naive_service(
    naive: Project, environment: Environment
) -> None:
    parts = {path for part in PARTS for path in naive.path.glob(part)}
    whole = (naive.path / "tests").rglob("test_*.py")
    assert all(parts & {path, *path.parents} for path in whole), "a part is missing"
    with ThreadPoolExecutor(len(PARTS)) as at_once:  # Nearly all of them wait for what never comes.
        ran = list(at_once.map(partial(run_traps, naive, environment), PARTS))

    failures: dict[str, list[str]] = defaultdict(list)
    unknown: set[str] = set()
    for case in chain.from_iterable(report.iter("testcase") for report in ran):
        failed = case.findall("failure")  # In the test itself; elsewhere it is an `error`.
        name = f"{case.get('classname')}.{case.get('name')}"
        failures[name] += [str(each.get("message")) for each in failed]
        unknown |= set(re.findall("no such route: .*", "".join(case.itertext())))
    assert len(failures) > 50
    assert [name for name, found in failures.items() if not found] == [], "these pass, or never ran"
    beside = {name: found for name, found in failures.items() if NO_TRAP.match(found[0])}
    assert (beside, unknown) == ({}, set()), "the naive service lacks what these ask for"


def test_in_process_clients_see_no_trap(naive: Project, environment: Environment) -> None:
    files = naive.path.parent / "in_process"
    command = ["python", "-m", "pytest", f"--basetemp={files}", "tests/in_process.py"]
    ran = environment.run(naive, *command)

    assert ran.returncode == 0
