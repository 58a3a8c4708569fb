"""The tests of the traps fail on a service that is written like the tutorials.

They also measure what becomes of its routes in a generated service, without the engine's classes.
"""

import dataclasses
import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from baking import Project
from environment import Environment
from marked import cases_of, run_marked
from rows import TRAPS

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


@pytest.fixture
def guarded(full: Project, tmp_path: Path) -> Project:
    """The full project, with the tutorials' routes in place of the engine's parts."""
    shutil.copytree(full.path, tmp_path / "guarded")
    project = dataclasses.replace(full, path=tmp_path / "guarded")
    engine = NAIVE / "service" / "engine"
    # The guard leaves the engine's own path operations alone, so these are outside of it.
    shutil.copytree(engine / "tutorial", project.src / "tutorial")
    shutil.copy(engine / "streams" / "pull.py", project.src / "tutorial")
    runs = Path("engine", "realtime", "runs")
    shutil.copy(NAIVE / "service" / runs / "router.py", project.src / runs)
    for overlay, place in (("service", project.src), ("tests", project.path / "tests")):
        shutil.copytree(NAIVE / "guarded" / overlay, place, dirs_exist_ok=True)
    shutil.copytree(NAIVE / "tests", project.path / "tests", dirs_exist_ok=True)
    for path in project.path.rglob("tests/engine/download/*.py"):
        text = path.read_text("utf-8")
        # The name of the route, as the tutorial writes it.
        text = text.replace('"GET /files/{file_id}"', '"GET /files/{file_id:path}"')
        path.write_text(text, "utf-8")
    return project


@pytest.mark.long
def test_plain_code_has_only_the_traps_that_the_page_says(
    guarded: Project, environment: Environment
) -> None:
    passed: dict[str, bool] = {}
    for case in cases_of(run_marked(guarded, environment, "trap", patience=4)):
        name = f"{case.get('classname')}.{str(case.get('name')).partition('[')[0]}"
        is_good = case.find("failure") is None and case.find("error") is None
        passed[name] = is_good and passed.get(name, True)
    gone, too_many = set(), []
    for row, tests in TRAPS.marked().items():
        beyond = TRAPS.entries[row].get("beyond", "").split()
        names = [f"tests.engine.{test}".replace(".py::", ".").replace("/", ".") for test in tests]
        asked = [name for name in names if name.rpartition(".")[2] not in beyond]
        if all(passed[name] for name in asked):
            gone.add(row)
        too_many += [name for name in names if name not in asked and passed[name]]
    marked = {row for row in TRAPS.rows if TRAPS.entries[row]["plain"] == "gone"}
    assert (gone - marked, marked - gone, too_many) == (set(), set(), [])


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
