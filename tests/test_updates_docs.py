"""The commands of docs/updates.md for a template without cruft keep the changes of the owner.

They run as they are in the document, with `uvx` replaced by the environment of the tests.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from answers import ASKED, REPOSITORY
from baking import ENGINE, TEMPLATE_FOLDER, Bake, files_below
from shell import variables
from test_cruft import Followed, commit_all, git
from tools import program

PAGE = (REPOSITORY / "docs/updates.md").read_text("utf-8")
UPDATE, ANSWERS, USAGE = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
#: Where the page has the URL of the template, and the versions.
URL = "https://example.com/cookiecutter-fastapi-streaming"
APP = "src/streaming_service/app.py"


Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(name="shell")
def _shell(tmp_path: Path) -> Shell:
    """Return a function that runs commands in a folder and accepts each default."""
    program("sh")
    env = variables(tmp_path)

    def shell(script: str, folder: Path, typed: str = "") -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=folder, env=env, input=typed + "\n" * 30, capture_output=True, encoding="utf-8",
            check=False,
        )  # fmt: skip
        sys.stdout.write(done.stdout + done.stderr)  # pytest shows it when the test fails
        return done

    return shell


@pytest.fixture
def project(template: Path, bake: Bake, tmp_path: Path) -> Followed:
    """Generate a project, and commit it with the files of the page that an owner adds."""
    repository = tmp_path / "template"
    shutil.copytree(template, repository)
    git(repository, "init", "--quiet", "--initial-branch=main")
    commit_all(repository, "The template")
    git(repository, "tag", "v0.2.0")
    answers = {"use_realtime": False, "author_name": "Ada", "_template": "elsewhere"}
    path = bake(use_realtime=False, author_name="Ada").path
    stored = {"commit": "v0.2.0", "context": {"cookiecutter": answers}}
    (path / ".cruft.json").write_text(json.dumps(stored))
    (path / "update.sh").write_text(UPDATE)
    git(path, "init", "--quiet")
    commit_all(path, "The project")
    return Followed(repository, path)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{path} has {text.count(old)} of {old!r}"
    path.write_text(text.replace(old, new), "utf-8")


def commands(project: Followed) -> list[str]:
    """Return the commands of the page that update a project."""
    lines: list[str] = USAGE.replace(URL, f"git+{project.template.as_uri()}").splitlines()
    assert [line.split()[:2] for line in lines] == [["sh", "update.sh"]] * 2
    return lines


def change(template: Path) -> None:
    """Change another line of that file, and other files, and add a question."""
    folder = template / TEMPLATE_FOLDER
    app = folder / "src/{{cookiecutter.package_name}}/app.py"
    app.write_text(app.read_text("utf-8") + "\n# News\n", "utf-8")
    (folder / "colour.txt").write_text(
        "{{ cookiecutter.colour }} of {{ cookiecutter.author_name }}"
    )
    (folder / "docs/troubleshooting.md").unlink()
    replace(template / "cookiecutter.json", '"ci": [', '"colour": "blue",\n  "ci": [')
    commit_all(template, "News")
    git(template, "tag", "v0.3.0")


def test_git_merges_the_changes_of_the_template_and_of_the_owner(
    project: Followed, shell: Shell, bake: Bake, tmp_path: Path
) -> None:
    update, add = commands(project)
    assert shell(ANSWERS, project.path).returncode == 0
    # The owner changes a line of a file, and adds another file.
    owners = project.path / "src/streaming_service"
    (owners / "mine.py").write_text('"""Mine."""\n')
    replace(project.path / APP, '"""The application:', '"""Mine:')
    commit_all(project.path, "My work")
    change(project.template)

    assert shell(update, project.path).returncode == 0

    text = (project.path / APP).read_text("utf-8")
    assert text.startswith('"""Mine:')
    assert text.endswith("\n# News\n")
    assert (owners / "mine.py").is_file()
    assert (project.path / "colour.txt").read_text("utf-8") == "blue of Ada"
    assert not (project.path / "docs/troubleshooting.md").exists()
    assert not (owners / "engine/realtime").exists()
    assert git(project.path, "status", "--porcelain") == ""
    assert "Template v0.3.0" in git(project.path, "log", "--format=%s", "--grep=^Template")

    assert shell(add, project.path).returncode == 0

    news = bake(tmp_path / "with", author_name="Ada").files() - {"docs/troubleshooting.md"}
    added = {".cruft.json", "answers.json", "colour.txt", "update.sh"}
    added.add("src/streaming_service/mine.py")
    assert {path.relative_to(project.path).as_posix() for path in files_below(project.path)} == (
        news | added
    )
    assert (project.path / APP).read_text("utf-8").startswith('"""Mine:')


def test_a_line_that_both_have_changed_is_a_conflict_of_git(
    project: Followed, shell: Shell
) -> None:
    (update, _), page = commands(project), "docs/troubleshooting.md"
    assert shell(ANSWERS, project.path).returncode == 0
    replace(project.path / page, "# Troubleshooting", "# My notes")

    assert "Commit your changes first." in shell("git add .; " + update, project.path).stderr
    commit_all(project.path, "My work")
    theirs = project.template / TEMPLATE_FOLDER / page
    replace(theirs, "# Troubleshooting", "# News")
    commit_all(project.template, "News")
    git(project.template, "tag", "v0.3.0")
    done = shell(update, project.path)

    text = (project.path / page).read_text("utf-8")
    assert done.returncode != 0
    assert re.match(r"<{7} HEAD\n# My notes\n={7}\n# News\n>{7} ", text)
    (project.path / page).write_text(re.sub(r"<{7}.*?>{7}[^\n]*", "# Both", text, flags=re.DOTALL))
    commit_all(project.path, "The update")
    assert git(project.path, "status", "--porcelain") == ""
    assert shell(update.replace("v0.2.0", "v0.3.0"), project.path).returncode == 0
    assert (project.path / page).read_text("utf-8").startswith("# Both\n")


def test_the_commands_of_cruft_work(
    template: Path, shell: Shell, bake: Bake, tmp_path: Path
) -> None:
    (block,) = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    source = tmp_path / "template"
    shutil.copytree(template, source)
    git(source, "init", "--quiet", "--initial-branch=main")
    commit_all(source, "The template")
    create, link, check, update, add = re.findall(r"^\$ (.*?)\s{2,}#", block, re.MULTILINE)

    assert shell(create.replace("TEMPLATE", str(source)), tmp_path).returncode == 0
    linked = bake(use_realtime=False, package_name="streaming_service").path
    git(linked, "init", "--quiet")
    commit_all(linked, "The project")
    answers = "".join("n\n" if key == "use_realtime" else "\n" for key in ASKED)
    link = link.replace("TEMPLATE", str(source))
    link = link.replace("VERSION", git(source, "rev-parse", "HEAD"))
    assert shell(link, linked, answers).returncode == 0
    commit_all(linked, "The link")
    for folder in (linked, tmp_path / "streaming-service"):
        assert shell(check, folder).returncode == 0
    health = next(source.rglob("health.py"))
    health.write_text(health.read_text("utf-8") + "\n# News\n", "utf-8")
    commit_all(source, "News")

    assert shell(check, linked).returncode != 0
    assert shell(update, linked).returncode == 0
    assert "# News" in next(linked.rglob("health.py")).read_text("utf-8")
    commit_all(linked, "The update")
    assert shell(add, linked).returncode == 0
    assert (linked / "src/streaming_service/engine/realtime").is_dir()


def test_other_pages_have_no_other_commands_of_cruft() -> None:
    folder = REPOSITORY / TEMPLATE_FOLDER
    pages = [REPOSITORY / "README.md", folder / "README.md", *folder.rglob("docs/*.md")]
    pages.append(REPOSITORY / ENGINE / "README.md")
    for page in pages:
        text = re.sub(r"\s+", " ", page.read_text("utf-8"))
        for command in re.findall(r"`(uvx cruft [^`]+)`", text):
            assert re.sub(r"\{.*\}", '{"use_realtime": true}', command) in PAGE, page
