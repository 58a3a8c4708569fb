"""The tests of the traps fail on a service as the tutorials write it: they test what they say."""

import dataclasses
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from baking import Project
from environment import Environment

NAIVE = Path(__file__).parent / "naive"


@pytest.fixture
def naive(full: Project, tmp_path: Path) -> Project:
    """The full project, with the tutorials' code in the places of ours."""
    shutil.copytree(full.path, tmp_path / "naive")
    project = dataclasses.replace(full, path=tmp_path / "naive")
    shutil.copytree(NAIVE, project.src, dirs_exist_ok=True)
    return project


def test_every_test_of_a_trap_fails_on_the_naive_service(
    naive: Project, environment: Environment
) -> None:
    command = ["python", "-m", "pytest", "-m", "trap", "--tb=no", "--junitxml=traps.xml"]
    ran = environment.run(naive, *command, PATIENCE="2")

    cases = list(ElementTree.parse(naive.path / "traps.xml").iter("testcase"))
    assert len(cases) > 50, ran.stdout
    survivors = [f"{case.get('name')}" for case in cases if case.find("failure") is None]
    assert survivors == [], "these pass on the naive service, or could not be run there"
