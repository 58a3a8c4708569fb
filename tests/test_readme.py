"""The terminal session of the README is run with a generated service."""

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from itertools import takewhile
from pathlib import Path

import pytest

from answers import ASKED, REPOSITORY
from baking import Project
from command import generate as run_cookiecutter
from environment import Environment
from running import LINK, started
from shell import variables

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


@pytest.mark.parametrize("key", ASKED)
def test_every_question_is_explained(key: str) -> None:
    assert f"`{key}`" in (REPOSITORY / "docs/prompts.md").read_text("utf-8")


def test_a_service_of_your_own_starts_with_the_commands_of_the_readme(
    template: Path, environment: Environment, tmp_path: Path
) -> None:
    block = README.split("## Your own service\n\n```console\n")[1].split("```")[0]
    generate, enter, serve = re.findall(r"^\$ (.*?)(?:\s{2,}#.*)?$", block, re.MULTILINE)
    generate = generate.replace("path/to/cookiecutter-fastapi-streaming", f"'{template}'")
    env = variables(tmp_path, environment.python.parent)
    (tmp_path / "enter").write_text("\n" * len(ASKED))
    env |= {"PACKAGE": "streaming_service", "PYTHONPATH": "src", "APP_SERVER__PORT": "0"}

    command = f"{generate} < '{tmp_path / 'enter'}' && {enter} && exec {serve}"
    with subprocess.Popen(
        ["bash", "-c", command], cwd=tmp_path, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        output = "".join(takewhile(lambda line: not LINK.search(line), process.stdout))
        process.terminate()
        process.communicate()

    assert f"Streaming Service is ready in {tmp_path / 'streaming-service'}" in output
    assert "Uvicorn running on" in output
    assert process.returncode == 0


def test_the_picture_of_the_terminal_is_of_this_version(template: Path, tmp_path: Path) -> None:
    texts = ET.parse(REPOSITORY / "docs/images/terminal.svg").iterfind(".//{*}text")
    lines = [text.text or "" for text in texts]
    done = run_cookiecutter(template, tmp_path, "--no-input")
    summary = done.stdout.strip("\n").replace(str(tmp_path), "/home/ada")
    summary = summary.replace(str(template), "path/to/cookiecutter-fastapi-streaming")

    # The commands below it are those of the session, whose output is tested above.
    assert set(summary.splitlines()) <= set(lines)
