"""Run the marked tests of a generated project, in parts side by side: most of them wait."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import TypeAlias

from baking import Project
from environment import Environment

#: Of the tests of a project, each run beside the others.
PARTS = [
    "tests/test_*.py", "tests/observability", "tests/errors", "tests/storage", "tests/upload",
    "tests/resumable", "tests/download", "tests/realtime/test_[a-q]*.py",
    "tests/realtime/test_[r-z]*.py",
]  # fmt: skip
SAFE = str.maketrans("/*[]", "____")

#: The class takes a parameter for the type checker only.
Report: TypeAlias = "ElementTree.ElementTree[ElementTree.Element]"


def run_marked(project: Project, environment: Environment, mark: str) -> Iterator[Report]:
    """Run the tests of a project that have a mark; return a report of each part."""
    parts = {path for part in PARTS for path in project.path.glob(part)}
    whole = (project.path / "tests").rglob("test_*.py")
    assert all(parts & {path, *path.parents} for path in whole), "a part is missing"
    with ThreadPoolExecutor(len(PARTS)) as at_once:
        yield from at_once.map(partial(_run_part, project, environment, mark), PARTS)


def cases_of(reports: Iterator[Report]) -> Iterator[ElementTree.Element]:
    """Yield the test cases of all reports."""
    return chain.from_iterable(report.iter("testcase") for report in reports)


def _run_part(project: Project, environment: Environment, mark: str, part: str) -> Report:
    tests = sorted(str(path.relative_to(project.path)) for path in project.path.glob(part))
    report = f"{part.translate(SAFE)}.xml"
    files = project.path.parent / part.translate(SAFE)  # pytest's own removes what others use.
    # Each in its own body: what one leaves behind must not fail the next one.
    alone = ["-p", "no:unraisableexception", "-p", "no:threadexception", "-p", "no:cacheprovider"]
    written = ["--tb=no", f"--junitxml={report}", "-o", "junit_logging=system-out"]
    # A file may import what the service does not have; its neighbours are run all the same.
    options = ["-m", mark, f"--basetemp={files}", "--continue-on-collection-errors"]
    options += [*alone, *written]
    command = ["python", "-m", "pytest", *options, *tests]
    environment.run(project, *command, timeout=1800, PATIENCE="2")
    return ElementTree.parse(project.path / report)
