"""A project that was created with cruft can be updated, and modules can be added later.

The tests run `cruft` on a repository with two commits of the template.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from answers import Answers
from baking import Bake, files_below
from tools import Outcome, run


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def commit_all(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", f"--message={message}")


@dataclass(frozen=True)
class Followed:
    """A project that follows a repository of the template."""

    template: Path
    path: Path

    def cruft(self, *arguments: str) -> Outcome:
        return run("cruft", *arguments, cwd=self.path)

    def update(self, *arguments: str) -> None:
        updated = self.cruft("update", "--skip-apply-ask", *arguments)
        assert updated.code == 0
        assert list(self.path.rglob("*.rej")) == []

    def files(self) -> set[str]:
        names = {path.relative_to(self.path).as_posix() for path in files_below(self.path)}
        return names - {".cruft.json"}


@pytest.fixture(scope="module")
def repository(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commit the template to a repository."""
    path = tmp_path_factory.mktemp("cruft") / "template"
    shutil.copytree(template, path)
    git(path, "init", "--quiet", "--initial-branch=main")
    commit_all(path, "The template")
    return path


@pytest.fixture
def follow(repository: Path, tmp_path: Path) -> Callable[..., Followed]:
    """Create a project with cruft, and commit it as its owner would."""

    def create(**answers: str | bool) -> Followed:
        template = tmp_path / "template"
        shutil.copytree(repository, template)
        made = run(
            "cruft", "create", str(template), "--no-input", f"--output-dir={tmp_path}",
            f"--extra-context={json.dumps(answers)}",
        )  # fmt: skip
        assert made.code == 0
        project = Followed(template, tmp_path / "streaming-service")
        assert not (project.path / ".git").exists()
        git(project.path, "init", "--quiet")
        commit_all(project.path, "The project")
        return project

    return create


def test_a_project_from_cruft_is_the_one_from_cookiecutter(
    follow: Callable[..., Followed], bake: Bake
) -> None:
    project = follow(use_upload=False)

    same = bake(use_upload=False)
    assert project.files() == same.files()
    for name in same.files():
        assert (project.path / name).read_bytes() == (same.path / name).read_bytes(), name


def test_an_update_without_news_changes_nothing(follow: Callable[..., Followed]) -> None:
    project = follow(use_upload=False)

    project.update()

    assert project.cruft("check").code == 0
    assert project.cruft("diff", "--exit-code").code == 0
    assert git(project.path, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("before", "news"),
    [({"use_upload": False}, {"use_upload": True}), ({}, {"storage": "s3"})],
    ids=["upload", "s3"],
)
def test_a_module_can_be_turned_on_later(
    before: Answers, news: Answers, follow: Callable[..., Followed], bake: Bake
) -> None:
    project = follow(use_realtime=False, **before)

    project.update("--variables-to-update", json.dumps(news))

    same = bake(use_realtime=False, **news)
    assert project.files() == same.files()
    for name in same.files():
        assert (project.path / name).read_bytes() == (same.path / name).read_bytes(), name
    for command in (["check", "--no-fix"], ["format", "--check"]):
        checked = run("ruff", *command, "--no-cache", cwd=project.path)
        assert checked.code == 0


def test_a_module_can_be_turned_off_later(follow: Callable[..., Followed], bake: Bake) -> None:
    project = follow()

    project.update("--variables-to-update", json.dumps({"use_realtime": False}))

    assert project.files() == bake(use_realtime=False).files()


def test_work_of_the_owner_survives_an_update(follow: Callable[..., Followed]) -> None:
    project = follow(use_upload=False)
    package = project.path / "src" / "streaming_service"
    (package / "mine.py").write_text('"""Mine."""\n')
    readme = project.path / "README.md"
    readme.write_text(readme.read_text("utf-8") + "\nMine.\n", "utf-8")
    commit_all(project.path, "My work")

    project.update("--variables-to-update", json.dumps({"use_upload": True}))

    assert (package / "mine.py").is_file()
    assert readme.read_text("utf-8").endswith("Mine.\n")
    assert (package / "engine" / "upload").is_dir()


def test_a_change_of_the_template_arrives(follow: Callable[..., Followed]) -> None:
    project = follow(use_upload=False)
    health = next(project.template.rglob("health.py"))
    health.write_text(health.read_text("utf-8") + "\n# News\n", "utf-8")
    commit_all(project.template, "News")
    assert project.cruft("check").code != 0

    project.update()

    [updated] = project.path.rglob("health.py")
    assert "# News" in updated.read_text("utf-8")
