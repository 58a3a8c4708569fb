"""Tests that share fixtures run in one process."""

import re
import subprocess
import sys

from answers import REPOSITORY
from groups import group_of


def test_every_file_has_one_process_unless_it_is_spread() -> None:
    assert group_of("tests/test_a.py::test_x[1]") == group_of("tests/test_a.py::test_y")
    assert group_of("tests/test_a.py::test_x") != group_of("tests/test_b.py::test_x")
    assert group_of("tests/test_prompts.py::test_x[1]") != group_of("tests/test_prompts.py::test_x")


def test_a_set_of_the_matrix_has_one_process() -> None:
    upload, download = "test_matrix.py::test_{}[upload]", "test_matrix.py::test_{}[download]"

    assert group_of(upload.format("x")) == group_of(upload.format("y"))
    assert group_of(upload.format("x")) != group_of(download.format("x"))


def test_the_types_of_all_sets_are_checked_by_one_process() -> None:
    types = "test_generated_suites.py::test_the_types_of_a_project_are_sound[{}]"

    assert group_of(types.format("upload")) == group_of(types.format("download"))
    assert group_of(types.format("upload")) != group_of(types.replace("types", "layers"))


def test_the_scheduler_uses_the_groups() -> None:
    options = ["--numprocesses=2", "--dist=loadscope", "-v", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "tests/test_prompts.py", "-k", "aligned"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    # Without the groups, one process would run all tests of the file.
    assert set(re.findall(r"^\[(gw\d)\].* PASSED", ran.stdout, re.MULTILINE)) == {"gw0", "gw1"}
