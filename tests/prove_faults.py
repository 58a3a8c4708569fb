"""`make prove-faults`: the tests of the faults fail on the last version that had them.

Takes that version's template, gives it the tests of today, runs those that are marked as tests of
a fault, and prints how each ended. Exit code 1 when one of them passes, or never ran.
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
from baking import LEFTOVERS, TEMPLATE_FOLDER, bake, copy_of_the_template
from environment import environment_for
from marked import cases_of, run_marked
from rows import FAULTS

#: The last version that had the faults.
BASE = "ccd68be"
TESTS = ("tests", f"{TEMPLATE_FOLDER}/tests")
PROJECTS = ("pyproject.toml", f"{TEMPLATE_FOLDER}/pyproject.toml")
MARK = 'markers = [\n    "fault(name): what was seen to fail in the field",\n'
WIDTH = 100


def main(base: str = BASE) -> int:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        old = unpack(base, Path(folder) / "old")
        ended = of_the_project(old, Path(folder)) | of_the_template(old)
    return report(ended)


def unpack(base: str, old: Path) -> Path:
    """Write the template of a commit, with the tests of the work tree."""
    archive = ["git", "-C", str(REPOSITORY), "archive", "--format=tar", base]
    packed = subprocess.run(archive, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as tar:
        tar.extractall(old, filter="data")
    for name in TESTS:
        shutil.rmtree(old / name)
        leftovers = shutil.ignore_patterns(*LEFTOVERS)
        shutil.copytree(REPOSITORY / name, old / name, ignore=leftovers)
    for name in PROJECTS:
        text = (old / name).read_text("utf-8")
        (old / name).write_text(text.replace("markers = [\n", MARK, 1), "utf-8")
    return old


def of_the_project(old: Path, folder: Path) -> dict[str, str]:
    """Run the marked tests that a generated project has; return how each ended."""
    os.environ["COOKIECUTTER_CONFIG"] = str(folder / "cookiecutter.yaml")
    Path(os.environ["COOKIECUTTER_CONFIG"]).write_text(
        f"cookiecutters_dir: '{folder / 'templates'}'\nreplay_dir: '{folder / 'replay'}'\n", "utf-8"
    )
    template = copy_of_the_template(folder / "template", old)
    project = bake(template, folder / "project", **EVERYTHING)
    ended = {}
    for case in cases_of(run_marked(project, environment_for(project), FAULTS.mark)):
        if not case.get("classname"):
            continue  # A file that imports what is new; its tests did not run, and are told of.
        path = str(case.get("classname")).removeprefix("tests.").replace(".", "/") + ".py"
        ended[f"{path}::{case.get('name')}"] = ending(case)
    return ended


def of_the_template(old: Path) -> dict[str, str]:
    """Run the marked tests of the template itself; return how each ended."""
    written = old / "report.xml"
    options = ["-q", "--tb=no", f"--junitxml={written}", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-m", FAULTS.mark, *options, "tests"]
    subprocess.run(command, cwd=old, check=False)
    return {
        f"template:{str(case.get('classname')).removeprefix('tests.')}.py::{case.get('name')}":
            ending(case)
        for case in cases_of(iter([ElementTree.parse(written)]))
    }  # fmt: skip


def ending(case: ElementTree.Element) -> str:
    """Return the first line of what failed in a test; "" when it passed or was skipped."""
    found = case.find("failure")
    if found is None:
        found = case.find("error")  # In a fixture, mostly as the service does not start.
    return "" if found is None else f"{found.get('message')}\n".splitlines()[0]


def report(ended: dict[str, str]) -> int:
    """Print a table of the rows, and return the exit code."""
    ran: dict[str, dict[str, str]] = defaultdict(dict)
    for name, message in ended.items():
        ran[name.partition("[")[0]][name] = message
    marked = FAULTS.marked()
    unknown = ran.keys() - {test for tests in marked.values() for test in tests}
    wrong = len(unknown)
    print(*(f"WRONG  {test} is of no row" for test in sorted(unknown)), sep="\n")
    for row, tests in ((row, marked.get(row, [])) for row in FAULTS.rows):
        print(f"{row}: {FAULTS.entries[row]['title']}")
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
