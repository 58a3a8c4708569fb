"""Check workflows, pipelines, container and compose files with linters and schemas, offline."""

from pathlib import Path

import pytest

from answers import MODULES, REPOSITORY, name_of, only
from baking import Bake, Project
from tools import Outcome, run


@pytest.fixture(params=[True, False], ids=["container", "no container"])
def gitlab(request: pytest.FixtureRequest, bake_once: Bake) -> Project:
    return bake_once(ci="gitlab", use_docker=request.param)


@pytest.fixture(params=[MODULES, ("use_realtime",)], ids=name_of)
def container(request: pytest.FixtureRequest, bake_once: Bake) -> Project:
    """A project with a container, with and without storage."""
    return bake_once(**only(*request.param), storage="s3", broker="redis")


@pytest.fixture(params=["repository", "project", "project without a container"])
def github(request: pytest.FixtureRequest, full: Project, bake_once: Bake) -> Path:
    """A folder with the workflows of the template and of generated projects."""
    if request.param == "repository":
        return REPOSITORY
    return full.path if request.param == "project" else bake_once(use_docker=False).path


def schema(name: str, *files: Path) -> Outcome:
    """Check files against a schema that comes with the tool."""
    return run("check-jsonschema", f"--builtin-schema=vendor.{name}", *files)


def workflows_of(folder: Path) -> list[Path]:
    return sorted((folder / ".github" / "workflows").glob("*.y*ml"))


def test_workflows_are_valid_for_github(github: Path) -> None:
    checked = schema("github-workflows", *workflows_of(github))

    assert checked.code == 0


def test_workflows_have_no_mistakes(github: Path) -> None:
    # actionlint also checks shell code, because shellcheck is a dependency.
    checked = run("actionlint", *workflows_of(github), cwd=github)

    assert checked.code == 0


def test_every_job_has_a_limit_of_time(github: Path) -> None:
    checked = run(
        "check-jsonschema",
        "--builtin-schema=custom.github-workflows-require-timeout",
        *workflows_of(github),
    )

    assert checked.code == 0


def test_workflows_give_no_more_rights_than_needed(github: Path) -> None:
    checked = run("zizmor", "--offline", "--no-progress", github / ".github")

    assert checked.code == 0


def test_the_pipeline_is_valid_for_gitlab(gitlab: Project) -> None:
    checked = run(
        "check-jsonschema",
        "--builtin-schema=vendor.gitlab-ci",
        "--data-transform=gitlab-ci",
        gitlab.path / ".gitlab-ci.yml",
    )

    assert checked.code == 0


def test_the_container_file_has_no_mistakes(container: Project) -> None:
    checked = run("hadolint", "--no-color", "Dockerfile", cwd=container.path)

    assert checked.code == 0


def test_the_compose_files_are_valid_for_docker(container: Project) -> None:
    checked = schema("compose-spec", *container.path.glob("compose*.yaml"))

    assert checked.code == 0


@pytest.mark.parametrize("whose", ["repository", "project"])
def test_the_commit_hooks_are_valid_for_pre_commit(whose: str, full: Project) -> None:
    folder = {"repository": REPOSITORY, "project": full.path}[whose]

    checked = run("pre-commit", "validate-config", folder / ".pre-commit-config.yaml")

    assert checked.code == 0
