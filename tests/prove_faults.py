"""`make prove-faults`: the tests of faults and bounds fail on the last version without the repair.

Generates a project from that version with later tests, runs the marked tests, and prints their
results. The exit code is 1 if one of them passes or does not run. `make prove-faults ARGS="bound
G"` runs the tests of one or more of PROOFS.
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
from typing import NamedTuple

from answers import OPEN, REPOSITORY
from baking import TEMPLATE_FOLDER, bake, copy_of_the_template
from environment import environment_for
from marked import cases_of, run_marked
from rows import Table


class Proof(NamedTuple):
    """Rows of a table whose tests fail on an earlier version.

    The tests are of a version with the same project layout: those of later versions import modules
    that the earlier version does not have.
    """

    mark: str
    rows: str  # The beginning of their names.
    base: str  # The last version without the repairs.
    tests: str


PROOFS = {
    "fault": Proof("fault", "F", "ccd68be", "e717d69"),
    "bound": Proof("bound", "", "e3899ef", "e717d69"),
    "G": Proof("fault", "G", "a390300", "fa59123"),
}
TESTS = ("tests", f"{TEMPLATE_FOLDER}/tests")
PROJECTS = ("pyproject.toml", f"{TEMPLATE_FOLDER}/pyproject.toml")
MARKS = 'markers = [\n    "fault(name): a fault",\n    "bound(name): a bound",\n    "slow: slow",\n'
#: Tests that run at the same time: files, and the folders of both layouts.
PARTS = ["*.py", "engine/*.py"]
PARTS += [f"{way}{name}*/" for way in ("", "engine/") for name in ("[!er-z]", "e[!n]", "[u-z]")]
PARTS += [f"{way}{name}*/" for way in ("", "engine/") for name in ("rea", "res", "s")]
WIDTH = 100


def main(*names: str) -> int:
    return max(prove(PROOFS[name]) for name in names or PROOFS)


def prove(proof: Proof) -> int:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        old = unpack(proof, Path(folder) / "old")
        template, project = (old / name for name in TESTS)
        ended = of_the_project(old, Path(folder), proof.mark) | of_the_template(old, proof.mark)
        table = Table(proof.mark, "", "", project, template, home=template)
        return report(table, proof.rows, ended)


def unpack(proof: Proof, old: Path) -> Path:
    """Write the template of the earlier version, with the later tests."""
    extract(proof.base, old)
    for name in TESTS:
        shutil.rmtree(old / name)
    extract(proof.tests, old, *TESTS)
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
    project = bake(template, folder / "project", **OPEN)
    ended = {}
    environment = environment_for(project)
    for case in cases_of(run_marked(project, environment, mark, "tests", parts=PARTS)):
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


def report(table: Table, rows: str, ended: dict[str, str]) -> int:
    """Print a table of the rows whose names begin with `rows`; return the exit code."""
    every = table.marked()
    # Other bounds existed before, or their tests need the setting.
    proved = [row for row in table.rows if row.startswith(rows) and "naive" in table.entries[row]]
    marked = {row: every.get(row, []) for row in proved}
    # A file may run the tests of another file with its own fixtures.
    known, every_name = (
        {name_of(test) for tests in found.values() for test in tests} for found in (marked, every)
    )
    ran: dict[str, dict[str, str]] = defaultdict(dict)
    for name, message in ended.items():
        test = name.partition("[")[0]
        if name_of(test) not in every_name - known:
            ran[test][name] = message
    unknown = [test for test in ran if name_of(test) not in known]
    wrong = len(unknown)
    print(*(f"WRONG  {test} is of no row" for test in sorted(unknown)), sep="\n")
    for row, tests in marked.items():
        print(f"{row}: {table.entries[row]['title']}")
        for test in tests:
            for name, message in ran.get(test, {test: ""}).items():
                wrong += not message
                told = message or ("PASSES" if test in ran else "DID NOT RUN")
                print(f"    {'fails' if message else 'WRONG'}  {name}\n           {told[:WIDTH]}")
        if not tests:
            wrong += 1
            print("    WRONG  has no test")
    print(f"{sum(map(len, ran.values()))} tests ran; {wrong} did not fail on the old version")
    return 1 if wrong else 0


def name_of(test: str) -> str:
    return test.partition("::")[2]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
