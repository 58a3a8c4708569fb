"""Generated projects pass their own tests, type checks and layer checks.

All tests of the engine, which is the same in every project, run with all modules. With each module
alone, one case of each test runs, so that every pair of answers about modules is covered; the slow
tests run without all modules only in the smallest project. A soak runs all cases with every set.
The owner's tests, types and layers are checked with sets that cover every combination of three
answers. The matrix checks all other sets statically. All suites run in one environment with the
dependencies of every module.
"""

import ast
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import one_case
from answers import (
    EVERYTHING,
    MODULES,
    OPEN,
    SUBSETS,
    Answers,
    Subset,
    all_and_each_alone,
    covering_subsets,
    name_of,
    only,
    tuples_of,
)
from baking import Bake, Project, python_below, tree_of
from environment import Environment, environment_for
from marked import PARTS, WITH_KEYS, files_of

ENGINE = "tests/engine"
#: Maximum seconds for one suite on a busy machine; longer for a soak.
PATIENCE = 6 * 3600 if os.environ.get("SOAK") else 1200

#: An upload, its listing and deletion, ranges, and resumed uploads, also after a sudden death.
IMPORTANT = [
    "upload/test_upload.py::test_a_raw_body_becomes_a_file",
    "upload/test_upload_faults.py::test_sudden_death_mid_upload_leaves_no_file_and_no_part",
    "storage/test_commits.py",
    "storage/test_storage.py",
    "storage/test_listing.py::test_all_pages_together_have_each_file_once",
    "download/test_download.py",
    "resumable/test_tus.py",
    "resumable/test_death.py::test_a_final_upload_survives_the_sudden_death_of_its_parts",
    "resumable/test_workers.py::test_a_stalled_chunk_gives_way_to_a_client_that_asks_another_worker",
]

each_set = pytest.mark.parametrize("subset", covering_subsets(), ids=name_of)
each_alone = pytest.mark.parametrize(
    "subset", [each for each in all_and_each_alone() if len(each) == 1], ids=name_of
)
#: Sets without all modules whose projects run the tests of the engine.
ENGINE_SETS = [
    subset
    for subset in (SUBSETS if "SOAK" in os.environ else all_and_each_alone())
    if len(subset) < len(MODULES)
]


def selection_for(subset: Subset) -> list[str]:
    """Return pytest's arguments for a set without all modules."""
    if "SOAK" in os.environ:
        return []
    # A project without streams has nothing but the core, on which all modules depend.
    fast = [] if subset == ("use_error_handling",) else ["-m", "not slow"]
    return ["-p", one_case.__name__, *fast]


def answers_of(subset: Subset) -> Answers:
    """Return the answers for a set of modules; all modules are combined with all options."""
    every = len(subset) == len(MODULES)
    return only(*subset) | (EVERYTHING if every else {"engine_tests": True})


@dataclass(frozen=True)
class Suite:
    """The result of a test suite."""

    code: int
    tests: list[str]
    skipped: list[str]


def run_suite(
    environment: Environment, project: Project, report: Path, *arguments: str, **variables: str
) -> Suite:
    """Run pytest with these arguments."""
    # A separate folder, because pytest deletes shared ones when the first suite ends.
    files = report.parent / "files"
    done = environment.run(
        project, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}",
        f"--basetemp={files}", *arguments,
        timeout=PATIENCE, PYTHONDONTWRITEBYTECODE="",  # The tests start the service many times.
        **variables,
    )  # fmt: skip
    shutil.rmtree(files, ignore_errors=True)  # A gigabyte.
    cases = ET.parse(report).findall(".//testcase") if report.exists() else []
    return Suite(
        done.returncode,
        [f"{case.get('classname')}.{case.get('name')}" for case in cases],
        [str(case.get("name")) for case in cases if case.find("skipped") is not None],
    )


@pytest.mark.parametrize(
    ("strength", "tested"),
    [(2, all_and_each_alone()), (3, covering_subsets())],
    ids=["tests of the engine", "tests of the owner"],
)
def test_all_combinations_of_answers_about_modules_are_tested(
    strength: int, tested: list[Subset]
) -> None:
    given = set().union(*(tuples_of(subset, strength) for subset in tested))

    assert given == set().union(*(tuples_of(subset, strength) for subset in SUBSETS))
    assert set(all_and_each_alone()) <= set(tested)


@pytest.mark.long
@pytest.mark.parametrize("part", PARTS)
def test_a_project_with_all_modules_passes_every_test_of_its_engine(
    part: str, full: Project, environment: Environment, tmp_path: Path
) -> None:
    # Each test of object storage runs with two servers.
    one = ["-k", "not moto"] if part.startswith("objects/") and "SOAK" not in os.environ else []
    suite = run_suite(environment, full, tmp_path / "report.xml", *files_of(full, part), *one)

    assert suite.code == 0
    if suite.skipped:
        pytest.skip(f"the machine cannot run {suite.skipped}")


@pytest.mark.long
@pytest.mark.parametrize("part", WITH_KEYS)
def test_a_project_with_access_control_passes_the_tests_of_it(
    part: str, complete: Project, environment: Environment, tmp_path: Path
) -> None:
    suite = run_suite(environment, complete, tmp_path / "report.xml", *files_of(complete, part))

    assert (suite.code, suite.skipped) == (0, [])


@pytest.mark.long
@pytest.mark.parametrize("part", ["storage", "upload", "resumable", "download"])
@pytest.mark.parametrize("server", ["seaweedfs", *(["moto"] if "SOAK" in os.environ else [])])
def test_a_project_passes_the_tests_of_its_engine_in_s3(
    server: str, part: str, bake: Bake, environment: Environment, tmp_path: Path
) -> None:
    project = bake(**OPEN)
    shutil.copy(one_case.__file__, project.path)
    some = [] if "SOAK" in os.environ else ["-p", one_case.__name__, "-m", "not slow"]

    suite = run_suite(
        environment,
        project,
        tmp_path / "report.xml",
        f"{ENGINE}/{part}",
        *some,
        TEST_STORAGE=server,
    )

    assert suite.code == 0
    assert len(suite.tests) > len(suite.skipped)


@pytest.mark.long
@pytest.mark.parametrize("server", ["moto", *(["seaweedfs"] if "SOAK" in os.environ else [])])
def test_a_project_passes_the_most_important_tests_in_s3(
    server: str, bake: Bake, environment: Environment, tmp_path: Path
) -> None:
    project, tests = bake(**OPEN), [f"{ENGINE}/{each}" for each in IMPORTANT]

    suite = run_suite(environment, project, tmp_path / "report.xml", *tests, TEST_STORAGE=server)

    assert (suite.code, suite.skipped) == (0, [])


def test_clients_with_a_key_pass_other_tests_of_the_engine(
    complete: Project, environment: Environment, tmp_path: Path
) -> None:
    parts = {name.partition("/")[0] for name in PARTS} - {"test_*.py", "check"}
    folders = [f"{ENGINE}/{name}" for name in parts if name not in WITH_KEYS]
    without = [f"--ignore={ENGINE}/{part}" for part in WITH_KEYS]

    suite = run_suite(environment, complete, tmp_path / "report.xml", *folders, *without)

    assert (suite.code, suite.skipped) == (0, [])
    assert len({name.rpartition(".")[0] for name in suite.tests}) > 15


@each_alone
def test_a_project_with_one_module_passes_the_tests_of_access_control(
    subset: Subset, bake: Bake, environment: Environment, tmp_path: Path
) -> None:
    project = bake(**only(*subset), engine_tests=True)
    tests = [part for each in WITH_KEYS for part in files_of(project, each)]

    suite = run_suite(environment, project, tmp_path / "report.xml", *tests)

    assert suite.code == 0
    assert len(suite.tests) > len(suite.skipped)


@pytest.mark.long
@pytest.mark.parametrize("subset", ENGINE_SETS, ids=name_of)
def test_a_project_passes_the_tests_of_its_engine(
    subset: Subset, bake: Bake, environment: Environment, tmp_path: Path
) -> None:
    project = bake(**answers_of(subset) | {"auth": "none"})
    shutil.copy(one_case.__file__, project.path)

    suite = run_suite(environment, project, tmp_path / "report.xml", ENGINE, *selection_for(subset))

    assert suite.code == 0
    assert len(suite.tests) > len(suite.skipped)


@each_set
def test_a_project_passes_the_tests_of_its_owner(
    subset: Subset, bake: Bake, environment: Environment, tmp_path: Path
) -> None:
    project = bake(**answers_of(subset))

    suite = run_suite(environment, project, tmp_path / "report.xml")

    assert suite.code == 0
    assert suite.tests
    assert suite.skipped == []
    # The tests of the engine exist, but `pytest` does not run them by default.
    assert (project.path / ENGINE).is_dir()
    assert [name for name in suite.tests if name.startswith("tests.engine")] == []


def test_what_waits_for_an_event_has_the_patience_of_all_others(full: Project) -> None:
    impatient = [
        f"{path.relative_to(full.path)}:{call.lineno}"
        for path in python_below(full.path / "tests")
        for call in ast.walk(tree_of(path))
        if isinstance(call, ast.Call)
        for limit in limits_of(call)
        if limit < 10
    ]

    assert impatient == []


def limits_of(call: ast.Call) -> Iterator[float]:
    """Yield the seconds after which a call fails, if they are a number; `wait` does not fail."""
    name = ast.unparse(call.func).rpartition(".")[2]
    limits = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
    limits = [] if name == "wait" else limits
    limits += call.args if name in ("timeout", "fail_after") else []
    for limit in limits:
        if isinstance(limit, ast.Constant) and isinstance(limit.value, int | float):
            yield limit.value


#: A plugin that writes to the log while pytest captures nothing, as a server's thread may do.
LATE = """import structlog

def pytest_runtest_logreport():
    structlog.get_logger().warning("between phases")
"""
FAILING = '''"""Tests with a log: one passes, one fails."""

import httpx
import pytest

from {package}.app import create_app
from {package}.engine.testing import LiveServer
from {package}.settings import Settings


@pytest.mark.parametrize("status", [404, 200])
async def test_of_something_that_logs(settings: Settings, status: int) -> None:
    async with LiveServer(create_app(settings)) as service, service.client() as client:
        assert (await client.get("/nothing")).status_code == status
'''


@pytest.mark.parametrize("folder", ["tests", ENGINE])
def test_the_log_is_shown_with_a_failed_test_and_nowhere_else(
    folder: str, bake: Bake, environment: Environment
) -> None:
    project = bake(**only("use_error_handling"), engine_tests=True)
    (project.path / "late.py").write_text(LATE)
    test = project.path / folder / "test_log_lines.py"
    test.write_text(FAILING.format(package=project.package))

    command = ["python", "-m", "pytest", "-q", "-p", "late", "-p", "no:cacheprovider", str(test)]
    done = environment.run(project, *command)

    progress, _, failures = done.stdout.partition("= FAILURES =")
    assert (done.returncode, progress.strip(" =\n").split()) == (1, [".F", "[100%]"])
    assert failures.count('"event":"request"') == 1
    assert "between phases" in failures


WARNING = '''"""A test during which something warns."""

import warnings


def test_of_something_that_warns() -> None:
    warnings.warn("soon gone", DeprecationWarning)
'''


@pytest.mark.parametrize(("folder", "code"), [("tests", 0), (ENGINE, 1)])
def test_a_warning_is_an_error_for_the_engine_and_not_for_its_owner(
    folder: str, code: int, bake: Bake, environment: Environment, tmp_path: Path
) -> None:
    project = bake(**answers_of(("use_error_handling",)))
    test = project.path / folder / "test_warning.py"
    test.write_text(WARNING, "utf-8")

    suite = run_suite(environment, project, tmp_path / "report.xml", f"{folder}/{test.name}")

    assert (suite.code, len(suite.tests)) == (code, 1)


@pytest.mark.parametrize("command", ["pytest -q", "mypy", "lint-imports --no-cache"])
def test_a_project_as_it_is_by_default_needs_no_more_than_it_declares(
    command: str, bake_once: Bake
) -> None:
    project = bake_once()
    declared = project.metadata["dependency-groups"]["dev"]
    own = environment_for(project, extra=declared)

    assert own.run(project, *command.split()).returncode == 0
    assert "opentelemetry-sdk" not in own.installed
    assert "hypothesis" not in own.installed


@each_set
def test_the_types_of_a_project_are_sound(
    subset: Subset,
    bake: Bake,
    environment: Environment,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    project = bake(**answers_of(subset))
    # A cache per process, because two processes must not write to one cache.
    cache = tmp_path_factory.getbasetemp() / "mypy"

    checked = environment.run(project, "mypy", "--strict", f"--cache-dir={cache}")

    assert checked.returncode == 0


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_the_types_of_a_project_are_sound_on_other_platforms(
    platform: str, complete: Project, environment: Environment, tmp_path: Path
) -> None:
    # Owners run mypy on their own machines, and the workflow of the template on all three.
    arguments = ["--strict", f"--platform={platform}", f"--cache-dir={tmp_path}"]

    checked = environment.run(complete, "mypy", *arguments)

    assert checked.returncode == 0


@each_set
def test_the_layers_of_a_project_hold(subset: Subset, bake: Bake, environment: Environment) -> None:
    project = bake(**answers_of(subset))

    checked = environment.run(project, "lint-imports", "--no-cache")

    assert checked.returncode == 0
    assert "0 broken" in checked.stdout
