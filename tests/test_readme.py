"""The terminal session of the README is run with a generated service."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from answers import REPOSITORY
from baking import Project
from environment import Environment
from running import LINK, started

README = (REPOSITORY / "README.md").read_text("utf-8")

#: Values that differ in each run: ids of files, requests and events, and times.
VARYING = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{8}-\d+|\b[0-9a-f]{16}\b"
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z"
)


def session() -> list[tuple[str, str]]:
    """Return the commands of the session, with their output in the README."""
    block = README.split("<!-- session -->\n```console\n")[1].split("```")[0]
    steps = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, shown) for command, _, shown in (step.partition("\n") for step in steps)]


def test_the_terminal_session_of_the_readme_is_real(
    complete: Project, environment: Environment, tmp_path: Path
) -> None:
    ours: dict[str, str] = {}

    with started(complete, environment, tmp_path, until=LINK) as service:
        port, key = service.port, service.line.partition("key=")[2]
        for command, shown in session():
            # Replace the ids of the README by those of this run.
            here = command
            for theirs, given in ours.items():
                here = here.replace(theirs, given)
            ran = subprocess.run(
                ["bash", "-c", here.replace(":8000", f":{port}")],
                cwd=tmp_path,
                env=os.environ | {"AUTH": f"Authorization: Bearer {key}"},
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
    "key",
    [
        *("use_upload", "storage", "broker", "use_chat", "license", "ci", "use_demo_page"),
        "engine_tests",
    ],
)
def test_the_readme_names_every_question(key: str) -> None:
    assert f"`{key}`" in README
