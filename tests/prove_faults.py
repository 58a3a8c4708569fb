"""`make prove-faults`: the tests of faults and bounds fail on the last version without the repair.

Generates a project from that version with the tests of TESTS_OF, runs the marked tests, and prints
their results. The exit code is 1 if one of them passes or does not run. `make prove-faults
ARGS=bound` runs the tests of one table.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from io import BytesIO
from pathlib import Path

from answers import EVERYTHING, REPOSITORY
from baking import TEMPLATE_FOLDER, bake, copy_of_the_template
from environment import environment_for
from marked import cases_of, run_marked
from rows import Table

#: The last version with the faults, or without the bounds.
BASES = {"fault": "ccd68be", "bound": "e3899ef"}
#: The last version with the same project layout. The tests of later versions import the engine, and
#: cannot run on earlier versions.
TESTS_OF = "e717d69"
TESTS = ("tests", f"{TEMPLATE_FOLDER}/tests")
PROJECTS = ("pyproject.toml", f"{TEMPLATE_FOLDER}/pyproject.toml")
MARKS = 'markers = [\n    "fault(name): a fault",\n    "bound(name): a bound",\n    "slow: slow",\n'
WIDTH = 100


def main(*marks: str) -> int:
    return max(map(prove, marks or BASES))


def prove(mark: str) -> int:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        old = unpack(BASES[mark], Path(folder) / "old")
        template, project = (old / name for name in TESTS)
        ended = of_the_project(old, Path(folder), mark) | of_the_template(old, mark)
        return report(Table(mark, "", "", project, template, home=template), ended)


def unpack(base: str, old: Path) -> Path:
    """Write the template of a commit, with the tests of TESTS_OF."""
    extract(base, old)
    for name in TESTS:
        shutil.rmtree(old / name)
    extract(TESTS_OF, old, *TESTS)
    for name in PROJECTS:
        text = (old / name).read_text("utf-8")
        (old / name).write_text(text.replace("markers = [\n", MARKS, 1), "utf-8")
    return old


def extract(commit: str, target: Path, *paths: str) -> None:
    """Write the files of a commit, or those below some paths."""
    archive = ["git", "-C", str(REPOSITORY), "archive", "--format=tar", commit, *paths]
    packed = subprocess.run(archive, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as tar:
        tar.extractall(target, filter="data")


def of_the_project(old: Path, folder: Path, mark: str) -> dict[str, str]:
    """Run the marked tests of a generated project; return their results."""
    os.environ["COOKIECUTTER_CONFIG"] = str(folder / "cookiecutter.yaml")
    Path(os.environ["COOKIECUTTER_CONFIG"]).write_text(
        f"cookiecutters_dir: '{folder / 'templates'}'\nreplay_dir: '{folder / 'replay'}'\n", "utf-8"
    )
    template = copy_of_the_template(folder / "template", old)
    project = bake(template, folder / "project", **EVERYTHING)
    ended = {}
    for case in cases_of(run_marked(project, environment_for(project), mark, "tests")):
        if not case.get("classname"):
            continue  # The file imports new modules; its tests cannot run, and are reported.
        path = str(case.get("classname")).removeprefix("tests.").replace(".", "/") + ".py"
        ended[f"{path}::{case.get('name')}"] = ending(case)
    return ended


def of_the_template(old: Path, mark: str) -> dict[str, str]:
    """Run the marked tests of the template; return their results."""
    written = old / "report.xml"
    options = ["-q", "--tb=no", f"--junitxml={written}", "-p", "no:cacheprovider"]
    options += ["--continue-on-collection-errors"]
    command = [sys.executable, "-m", "pytest", "-m", mark, *options, "tests"]
    subprocess.run(command, cwd=old, check=False)
    return {
        f"template:{str(case.get('classname')).removeprefix('tests.')}.py::{case.get('name')}":
            ending(case)
        for case in cases_of(iter([ElementTree.parse(written)]))
        if case.get("classname")
    }  # fmt: skip


def ending(case: ElementTree.Element) -> str:
    """Return the first line of the failure of a test; "" if it passed or was skipped."""
    found = case.find("failure")
    if found is None:
        found = case.find("error")  # A failed fixture, usually because the service does not start.
    return "" if found is None else f"{found.get('message')}\n".splitlines()[0]


def report(table: Table, ended: dict[str, str]) -> int:
    """Print a table of the rows, and return the exit code."""
    ran: dict[str, dict[str, str]] = defaultdict(dict)
    for name, message in ended.items():
        ran[name.partition("[")[0]][name] = message
    marked = table.marked()
    # Other bounds existed before, or their tests need the setting.
    held = {row for row in table.rows if "naive" not in table.entries[row]}
    # A file may run the tests of another file with its own fixtures.
    known = {test.partition("::")[2] for tests in marked.values() for test in tests}
    unknown = [test for test in ran if test.partition("::")[2] not in known]
    wrong = len(unknown)
    print(*(f"WRONG  {test} is of no row" for test in sorted(unknown)), sep="\n")
    for row, tests in ((row, marked.get(row, [])) for row in table.rows if row not in held):
        print(f"{row}: {table.entries[row]['title']}")
        for test in tests:
            for name, message in ran.get(test, {test: ""}).items():
                wrong += not message
                told = message or ("PASSES" if test in ran else "DID NOT RUN")
                print(f"    {'fails' if message else 'WRONG'}  {name}\n           {told[:WIDTH]}")
        if not tests:
            wrong += 1
            print("    WRONG  has no test")
    print(f"{len(ended)} tests ran; {wrong} did not fail on the old version")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
