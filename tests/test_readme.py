"""The terminal session of the README is run with a generated service."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from answers import REPOSITORY
from baking import Project
from environment import Environment

README = (REPOSITORY / "README.md").read_text("utf-8")

#: Values that differ in each run: ids of files, requests and events, and times.
VARYING = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{8}-\d+|\b[0-9a-f]{16}\b"
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z"
)


@contextmanager
def served(project: Project, environment: Environment, folder: Path) -> Iterator[int]:
    """Run the service on a free port, with its files in a folder of the test.

    Other tests share the project, so its folder must not change.
    """
    process = subprocess.Popen(
        [environment.python, "-m", project.package],
        cwd=folder,
        env={"PYTHONPATH": str(project.path / "src"), "APP_SERVER__PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        says = re.compile(r"Uvicorn running on http://127.0.0.1:(\d+)")
        yield next(int(found[1]) for found in map(says.search, process.stdout) if found)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def session() -> list[tuple[str, str]]:
    """Return the commands of the session, with their output in the README."""
    block = README.split("<!-- session -->\n```console\n")[1].split("```")[0]
    steps = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, shown) for command, _, shown in (step.partition("\n") for step in steps)]


def test_the_terminal_session_of_the_readme_is_real(
    full: Project, environment: Environment, tmp_path: Path
) -> None:
    ours: dict[str, str] = {}

    with served(full, environment, tmp_path) as port:
        for command, shown in session():
            # Replace the ids of the README by those of this run.
            here = command
            for theirs, given in ours.items():
                here = here.replace(theirs, given)
            ran = subprocess.run(
                ["bash", "-c", here.replace(":8000", f":{port}")],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            output = ran.stdout.replace(f":{port}", ":8000")
            ours |= dict(zip(VARYING.findall(shown), VARYING.findall(output), strict=False))
            assert VARYING.sub("…", output) == VARYING.sub("…", shown), command

    assert len(session()) >= 5


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 150
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (REPOSITORY / target).exists(), target


@pytest.mark.parametrize(
    "key", ["use_upload", "broker", "license", "ci", "use_demo_page", "engine_tests"]
)
def test_the_readme_names_every_question(key: str) -> None:
    assert f"`{key}`" in README
