"""The hooks need only Python, treat answers as data, and can be run again.

Answers are inserted into the project as text, even if they look like code.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from answers import only
from baking import Bake, Project, python_below
from command import generate
from environment import Environment
from imports import absolute
from rendering import HOOKS, rendered

CODE_LIKE = [
    '"; import os; os._exit(1) #',
    "'; import os; os._exit(1) #",
    '""" + open("x") + """',
    "'''",
    "\\",
    "\\\\ and \\n and \\u0041",
    "C:\\new\\table",
    "\"double\" and 'single'",
    "{0} {name} {} }} %}",
    "%s %(name)s %%",
    "$HOME ${HOME} $(id) `id`",
    "🚀 日本 é",
    "</script><script>alert(1)</script> &amp; &",
    "# a comment, [a](link), **bold**",
    'r""" {\'a\': 1} """',
]
#: A module that disables connections in every Python process with it on the path.
NO_NETWORK = """
import socket

def refuse(*arguments, **options):
    raise OSError("there is no network here")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def run_hook(name: str, project: Project, **answers: bool | str) -> None:
    """Run a hook in a project's folder, like cookiecutter."""
    script = project.path.parent / name
    script.write_text(rendered(name, **answers), "utf-8")
    subprocess.run([sys.executable, script], cwd=project.path, check=True)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=True
    ).stdout


@pytest.mark.fault("G32")
def test_neither_git_nor_uv_nor_a_network_is_needed(template: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    nothing = tmp_path / "empty"
    nothing.mkdir()
    env = {**os.environ, "PATH": str(nothing), "PYTHONPATH": str(tmp_path)}

    done = generate(template, tmp_path / "out", "--no-input", env=env)

    assert done.returncode == 0
    assert done.stderr == ""
    assert (tmp_path / "out/streaming-service/src/streaming_service/app.py").is_file()


@pytest.mark.parametrize("hook", sorted(path.name for path in HOOKS.glob("*.py")))
def test_a_hook_imports_python_s_own_modules_only(hook: str) -> None:
    assert absolute(HOOKS / hook) == set()


@pytest.mark.fault("G32")
def test_the_post_generation_hook_can_be_run_again(bake: Bake) -> None:
    answers = only("use_download")
    project = bake(**answers)
    before = project.files()

    run_hook("post_gen_project.py", project, **answers)

    assert project.files() == before


def test_the_folder_may_have_spaces_and_letters_of_any_alphabet(
    template: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my projects" / "Überraschung 日本"

    done = generate(template, folder, "--no-input")

    assert done.returncode == 0
    assert str(folder) in done.stdout
    assert (folder / "streaming-service" / "pyproject.toml").is_file()


@pytest.mark.fault("G32")
def test_a_console_that_knows_ascii_only_does_not_stop_the_hook(
    template: Path, tmp_path: Path
) -> None:
    env = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}

    done = generate(template, tmp_path, "--no-input", "project_name=Überraschung", env=env)

    assert done.returncode == 0
    assert (tmp_path / "uberraschung" / "README.md").is_file()


@pytest.mark.parametrize("text", CODE_LIKE)
def test_an_answer_that_looks_like_code_is_text(text: str, bake: Bake, tmp_path: Path) -> None:
    project = bake(
        project_name=text,
        description=text,
        author_name=text,
        project_slug="good",
        package_name="good",
        license="MIT",
    )

    metadata = tomllib.loads((project.path / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["description"] == text
    assert metadata["authors"] == [{"name": text, "email": "you@example.com"}]
    assert text in (project.path / "README.md").read_text("utf-8")
    assert text in (project.path / "LICENSE").read_text("utf-8")
    usual = bake(tmp_path / "usual", package_name="good")
    for path in python_below(project.path):
        # No answer but the package's name is in code.
        assert path.read_bytes() == (usual.path / path.relative_to(project.path)).read_bytes()


@pytest.mark.parametrize("installed", [True, False])
def test_the_running_application_has_the_name_of_the_distribution_or_of_the_package(
    installed: bool, bake: Bake, environment: Environment
) -> None:
    project = bake(project_slug="Good.Name", package_name="good_name")
    if installed:
        metadata = project.src.with_name("good_name-0.1.0.dist-info") / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text("Metadata-Version: 2.4\nName: Good.Name\nVersion: 0.1.0\n")

    show = "from good_name.app import create_app; print(create_app().title)"
    done = environment.run(project, "python", "-c", show)

    assert (done.returncode, done.stdout) == (0, "Good.Name\n" if installed else "good_name\n")


def test_the_hook_creates_no_repository_and_prints_the_command(
    template: Path, tmp_path: Path
) -> None:
    done = generate(template, tmp_path, "--no-input")

    assert "git init" in done.stdout
    assert not (tmp_path / "streaming-service" / ".git").exists()


def test_no_generated_file_is_ignored_by_git(bake: Bake) -> None:
    project = bake(engine_tests=True)
    git(project.path, "init", "--quiet")

    status = git(project.path, "status", "--porcelain", "--ignored", "--untracked-files=all")

    assert "?? pyproject.toml" in status.splitlines()
    assert [line for line in status.splitlines() if line.startswith("!!")] == []
