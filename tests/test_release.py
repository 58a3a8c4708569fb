"""A release has one version everywhere, archives that can be used, and a generated project."""

import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import generate
import pytest
import release

from answers import REPOSITORY
from baking import Project

VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
TAG = f"v{VERSION}"
CHANGES = """# Changes

## Unreleased

* Not yet.

## 1.2.0 (2026-02-03)

### A title

* New.

## 1.1.0 (2026-01-02)

* Old.
"""


@pytest.fixture(scope="module")
def repository(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of the template with one commit, and a tag."""
    folder = tmp_path_factory.mktemp("release") / "repository"
    for arguments in (
        ["init", "--quiet", str(folder)],
        ["-C", str(folder), "--work-tree", str(template), "add", "--all"],
        ["-C", str(folder), "commit", "--quiet", "--message", "A version"],
        ["-C", str(folder), "tag", TAG],
        ["-C", str(folder), "checkout", "--quiet", "--force", TAG],
    ):
        subprocess.run(["git", *arguments], check=True)
    return folder


@pytest.mark.parametrize(
    ("version", "notes"), [("1.2.0", "### A title\n\n* New.\n"), ("1.1.0", "* Old.\n")]
)
def test_the_notes_are_the_section_of_the_version(version: str, notes: str) -> None:
    assert release.section(CHANGES, version) == notes


@pytest.mark.parametrize("version", ["1.3.0", "1.2", "Unreleased"])
def test_a_version_without_a_section_is_not_released(version: str) -> None:
    with pytest.raises(release.ReleaseError, match="no heading"):
        release.section(CHANGES, version)


def test_a_section_without_changes_is_not_released() -> None:
    with pytest.raises(release.ReleaseError, match="empty"):
        release.section("## 1.3.0 (2026-03-04)\n\n## 1.2.0 (2026-02-03)\n\n* Old.\n", "1.3.0")


@pytest.mark.parametrize("tag", [VERSION, f"{TAG}-rc1", "v1", "latest"])
def test_a_tag_without_a_whole_version_is_not_released(tag: str) -> None:
    with pytest.raises(release.ReleaseError, match="is not a tag"):
        release.check(tag)


def test_the_version_of_the_project_has_notes() -> None:
    assert release.check(TAG)


def test_a_tag_of_another_version_is_not_released() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / ".ci" / "release.py", "check", "v99.0.0"],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == f"pyproject.toml has the version {VERSION}, not 99.0.0\n"


def test_the_archives_contain_the_committed_template_and_a_project(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "not-committed").touch()

    release.archives(TAG, tmp_path / "dist", repository)

    source, example = sorted((tmp_path / "dist").iterdir())
    assert source.name == f"cookiecutter-fastapi-streaming-{VERSION}.tar.gz"
    assert example.name == f"streaming-service-example-{VERSION}.tar.gz"
    prefix = source.name.removesuffix(".tar.gz")
    with tarfile.open(source) as files:
        names = files.getnames()
        assert f"{prefix}/cookiecutter.json" in names
        assert f"{prefix}/not-committed" not in names
    with tarfile.open(example) as files:
        assert "streaming-service/src/streaming_service/app.py" in files.getnames()


@pytest.mark.parametrize("email", ["", "team@example.org"])
def test_the_author_of_the_published_project_is_not_a_placeholder(
    email: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERED_AUTHOR", "A Team" if email else "")
    monkeypatch.setenv("RENDERED_EMAIL", email)

    project = release.generate(TAG, tmp_path, repository)

    author = "A Team" if email else "The cookiecutter-fastapi-streaming authors"
    address = email or "security@example.com"
    assert f"Copyright (c) {author}\n" in (project / "LICENSE").read_text("utf-8")
    security = (project / "SECURITY.md").read_text("utf-8")
    assert f"Write to {address}, and not in a public issue." in security
    assert (f"`{address}` is not a real address" in security) is (not email)


def test_each_release_is_a_commit_with_the_generated_project(
    repository: Path, tmp_path: Path
) -> None:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", remote], check=True)

    for _ in range(2):
        release.render(TAG, str(remote), "main", repository)

    log = release.git(remote, "log", "--format=%s", "main").splitlines()
    assert log == [f"Generate with the template {TAG}"] * 2
    files = release.git(remote, "ls-tree", "-r", "--name-only", "main").splitlines()
    assert "src/streaming_service/app.py" in files
    assert ".github/workflows/ci.yml" in files
    assert not {name for name in files if "cookiecutter" in name}


def test_a_generated_project_is_checked_as_in_its_own_workflow(full: Project) -> None:
    workflow = (full.path / ".github/workflows/ci.yml").read_text("utf-8")

    for command in generate.COMMANDS:
        assert f"run: {' '.join(command)}\n" in workflow


def test_a_failed_check_of_a_generated_project_is_reported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fails = [sys.executable, "-c", "raise SystemExit(3)"]
    works = [sys.executable, "-c", "from pathlib import Path; print(Path('Dockerfile').exists())"]

    assert generate.main(tmp_path, ["use_docker=no"], [fails, works]) == 1

    output = capfd.readouterr().out
    assert "False" in output
    assert f"failed: {' '.join(fails)}" in output
