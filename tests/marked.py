"""Run the marked tests of a generated project in several processes, because most of them wait."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from baking import Project
from environment import Environment

#: Parts of the engine's tests that run at the same time.
PARTS = [
    "test_*.py", "check", "observability", "errors", "plain", "streams", "storage", "upload",
    "resumable", "download", "realtime/test_[a-q]*.py", "realtime/test_[r-z]*.py", "realtime/chat",
    "objects/test_[a-o]*.py", "objects/test_[p-z]*.py",
]  # fmt: skip
#: Parts that exist with access control only.
WITH_KEYS = ["access", "realtime/access"]
#: The import of tests or marks from another file of tests.
IMPORTED = re.compile(r"^from (\.+)(test_\w+) import ", re.MULTILINE)
SAFE = str.maketrans("/*[]!", "_____")

#: The class has a parameter only for the type checker.
Report: TypeAlias = "ElementTree.ElementTree[ElementTree.Element]"


def run_marked(
    project: Project,
    environment: Environment,
    mark: str,
    folder: str = "tests/engine",
    patience: int = 2,
    parts: Sequence[str] = PARTS,
) -> Iterator[Report]:
    """Run the tests with a mark in a folder of a project; return a report per part.

    The parts are patterns of files and folders. `patience` is the time in seconds that a test waits
    for what should happen at once.
    """
    run = partial(_run_part, project, environment, mark, folder, patience, parts)
    with ThreadPoolExecutor(len(parts)) as at_once:
        yield from at_once.map(run, parts)


def files_of(
    project: Project, part: str, folder: str = "tests/engine", parts: Sequence[str] = PARTS
) -> list[str]:
    """Return the files and folders of one of all parts of the tests."""
    every = [*parts, *WITH_KEYS]
    known = {path for each in every for path in project.path.glob(f"{folder}/{each}")}
    whole = (project.path / folder).rglob("test_*.py")
    assert all(known & {path, *path.parents} for path in whole), "a part is missing"
    found = project.path.glob(f"{folder}/{part}")
    return sorted(str(path.relative_to(project.path)) for path in found)


def cases_of(reports: Iterator[Report]) -> Iterator[ElementTree.Element]:
    """Yield the test cases of all reports."""
    return chain.from_iterable(report.iter("testcase") for report in reports)


def marked_of(project: Project, paths: list[str], mark: str) -> list[str]:
    """Return the files with a mark: after its import, pytest would deselect all tests of another.

    The paths are files and folders. A file may also import marked tests, or a mark, of another.
    """

    def has(path: Path) -> bool:
        text = path.read_text("utf-8")
        imported = (path.parents[len(d) - 1] / f"{name}.py" for d, name in IMPORTED.findall(text))
        return bool(re.search(rf"\bmark\.{mark}\b", text)) or any(map(has, imported))

    whole = [project.path / path for path in paths]
    files = chain.from_iterable([p] if p.is_file() else sorted(p.rglob("test_*.py")) for p in whole)
    return [str(path.relative_to(project.path)) for path in files if has(path)]


def _run_part(
    project: Project,
    environment: Environment,
    mark: str,
    folder: str,
    patience: int,
    parts: Sequence[str],
    part: str,
) -> Report:
    tests = marked_of(project, files_of(project, part, folder, parts), mark)
    if not tests:
        return ElementTree.ElementTree(ElementTree.Element("testsuites"))
    place = f"{folder}/{part}".translate(SAFE)
    report = f"{place}.xml"
    # By default pytest deletes temporary folders that other runs still use.
    files = project.path.parent / place
    # Isolate the tests from the leftovers of a failed one.
    alone = ["-p", "no:unraisableexception", "-p", "no:threadexception", "-p", "no:cacheprovider"]
    written = [
        "--assert=plain",
        "--tb=no",
        f"--junitxml={report}",
        "-o",
        "junit_logging=system-out",
    ]
    # A file may import missing modules; run the others nevertheless.
    options = ["-m", mark, f"--basetemp={files}", "--continue-on-collection-errors"]
    options += [*alone, *written]
    command = ["python", "-m", "pytest", *options, *tests]
    environment.run(project, *command, timeout=1800, PATIENCE=str(patience))
    return ElementTree.parse(project.path / report)
