"""The commands of a generated README run, and its curl lines work with a service.

`uv run` is replaced by the environment of the tests, which has no network.
"""

import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from answers import EVERYTHING, Answers, only
from baking import Bake, Project
from environment import Environment
from running import LINK, RUNNING, started
from shell import variables
from tools import program

#: Commands that other tests run; Docker is checked in `test_containers`.
ELSEWHERE = {
    "uv run serve": "test_the_commands_of_a_readme_work",
    "uv run pytest": "test_generated_suites.py",
    "git init && git add .": "test_a_new_project_passes_its_pre_commit_hooks",
    "uv run pre-commit run --all-files": "test_a_new_project_passes_its_pre_commit_hooks",
    "uv run pre-commit install": "test_a_new_project_passes_its_pre_commit_hooks",
    "docker compose up --build": "test_containers.py",
}
#: Parts of commands, and a text in the output; the first match counts.
EXPECTED = {
    "@photo.jpg": '"filename":"photo.jpg"',
    "@readings.csv": '"accepted":2',
    "uv run serve import": "photo.jpg",
    ":8000/files$": '"filename":"photo.jpg"',
    "/exports/lines": "number,text\n1,line 1\n",
    "/transform/upper": "HELLO\n",
    "/topics/news/events$": '"topic":"news"',
    "/runs/counter": '"events":"http',
    "/v1/chat/completions": "data: [DONE]",
    "/nothing": '"status":404',
    "/metrics": "# TYPE ",
    "/ID$|/archive|secrets|^AUTH=": "",
}
WITHOUT_KEYS: Answers = {"auth": "none", "use_docker": False}
#: Every variant of the commands occurs at least once.
CASES: dict[str, Answers] = {
    "everything": EVERYTHING,
    "download": only("use_download") | {"use_docker": False},
    "open download": only("use_download") | WITHOUT_KEYS,
    "open upload and real-time": only("use_upload", "use_realtime") | WITHOUT_KEYS,
}


PHOTO = b"\xff\xd8\xff" + bytes(1000)


def variables_of(project: Project) -> dict[str, str]:
    return {"PACKAGE": project.package, "PYTHONPATH": str(project.path / "src")}


def commands_of(page: Path) -> list[str]:
    """Return the commands of a page without their comments."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    lines = re.findall(r"^\$ (.*)$", "".join(blocks), re.M)
    return [re.sub(r"\s{2,}# .*", "", line) for line in lines]


@pytest.fixture(name="shell")
def _shell(environment: Environment, tmp_path: Path) -> dict[str, str]:
    """Return the variables of a shell in which `uv run` runs the tools of the environment."""
    return variables(tmp_path, environment.python.parent)


class Block:
    """The commands of a README, run one after the other in a folder."""

    def __init__(self, folder: Path, env: dict[str, str], port: int) -> None:
        self.folder, self.env, self.port = folder, env, port
        self.id = ""
        self.follower: subprocess.Popen[str] | None = None

    def start(self, command: str) -> "subprocess.Popen[str]":
        here = command.replace(":8000", f":{self.port}").replace("ID", self.id)
        return subprocess.Popen(
            ["bash", "-c", here], cwd=self.folder, env=self.env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, command: str) -> None:
        """Run a command, and check its output; a command in the background has to print events."""
        if command.endswith(" &"):
            self.follower = self.start(f"exec {command[:-2]}")
            assert self.follower.stdout is not None
            assert self.follower.stdout.readline().startswith("retry:")
            return
        process = self.start(command)
        output, _ = process.communicate("hello\n", timeout=90)
        sys.stdout.write(f"{command}\n{output}\n")  # pytest shows it when the test fails
        expected = next(text for part, text in EXPECTED.items() if re.search(part, command))
        assert (process.returncode, expected in output) == (0, True), command
        if found := re.search(r'"id":"([0-9a-f-]{36})"', output):
            self.id = found[1]

    def end(self) -> None:
        """Wait until the command in the background has printed the event."""
        if self.follower:
            assert self.follower.stdout is not None
            assert 'data: {"hello":"world"}\n' in iter(self.follower.stdout.readline, "")
            self.follower.terminate()
            self.follower.communicate()


@pytest.mark.parametrize("case", CASES)
def test_the_commands_of_a_readme_work(
    case: str, bake: Bake, environment: Environment, shell: dict[str, str], tmp_path: Path
) -> None:
    program("curl")
    project = bake(**CASES[case])
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    (tmp_path / "readings.csv").write_text("sensor,value\nroof,7.5\ncellar,4\n")
    (tmp_path / ".curlrc").write_text("silent\nshow-error\nmax-time = 90\n")
    until = RUNNING if CASES[case].get("auth") == "none" else LINK

    with started(project, environment, tmp_path, until) as service:
        key = service.line.partition("key=")[2]
        shell |= variables_of(project) | {"AUTH": f"Authorization: Bearer {key}"}
        block = Block(tmp_path, shell, service.port)
        for command in commands_of(project.path / "README.md"):
            if command not in ELSEWHERE:
                block.run(command)
        block.end()

    if "use_download" not in CASES[case] or CASES[case]["use_download"]:
        assert (tmp_path / "copy.jpg").read_bytes() == PHOTO
        assert ZipFile(tmp_path / "files.zip").namelist() == ["photo.jpg"]


def test_a_new_project_passes_its_pre_commit_hooks_without_a_network(
    bake: Bake, shell: dict[str, str]
) -> None:
    project = bake()
    shell |= variables_of(project)
    (check, install) = ("uv run pre-commit run --all-files", "uv run pre-commit install")
    commands = commands_of(project.path / "README.md")
    assert {"git init && git add .", check, install} <= set(commands)

    def run(command: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["bash", "-c", command], cwd=project.path, env=shell, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        sys.stdout.write(done.stdout)
        return done

    done = run(f"git init && git add . && {check} && {install}")

    assert done.returncode == 0
    assert done.stdout.count("Passed") == 5
    assert "Skipped" not in done.stdout
    assert (project.path / ".git/hooks/pre-commit").is_file()
    (project.src / "unused.py").write_text('"""A module."""\n\nimport os\n')
    assert run("git add . && uv run pre-commit run ruff-check --all-files").returncode == 1
