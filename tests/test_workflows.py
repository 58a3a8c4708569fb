"""Check workflows, pipelines, container and compose files with linters and schemas, offline."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from answers import MODULES, REPOSITORY, name_of, only
from baking import Bake, Project
from tools import Outcome, run


@pytest.fixture(scope="module", params=[True, False], ids=["container", "no container"])
def gitlab(request: pytest.FixtureRequest, bake_once: Bake) -> Project:
    return bake_once(ci="gitlab", use_docker=request.param)


@pytest.fixture(scope="module", params=[MODULES, ("use_realtime",)], ids=name_of)
def container(request: pytest.FixtureRequest, bake_once: Bake) -> Project:
    """A project with a container, with and without storage."""
    return bake_once(**only(*request.param), storage="s3", broker="redis")


@pytest.fixture(scope="module")
def bare(bake_once: Bake) -> Project:
    """A project without a container."""
    return bake_once(use_docker=False)


@pytest.fixture(scope="module", params=["repository", "project", "project without a container"])
def github(request: pytest.FixtureRequest, full: Project, bare: Project) -> Path:
    """A folder with the workflows of the template and of generated projects."""
    if request.param == "repository":
        return REPOSITORY
    return full.path if request.param == "project" else bare.path


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


def test_the_updates_of_dependencies_are_valid_for_dependabot(github: Path) -> None:
    checked = schema("dependabot", github / ".github" / "dependabot.yml")

    assert checked.code == 0


def test_containers_are_updated_where_a_project_has_them(full: Project, bare: Project) -> None:
    ecosystems = [
        [each["package-ecosystem"] for each in yaml.safe_load(text)["updates"]]
        for text in ((p.path / ".github/dependabot.yml").read_text("utf-8") for p in (full, bare))
    ]

    assert ecosystems == [
        ["github-actions", "uv", "docker", "docker-compose"],
        ["github-actions", "uv"],
    ]


def test_the_actions_of_generated_projects_are_updated() -> None:
    updates = yaml.safe_load((REPOSITORY / ".github/dependabot.yml").read_text("utf-8"))["updates"]
    root, pattern = updates[0]["directories"]

    (folder,) = REPOSITORY.glob(pattern.removeprefix("/"))

    # Dependabot looks for the keys `uses` of the YAML, before it is rendered.
    (workflow,) = (yaml.safe_load(path.read_text("utf-8")) for path in folder.iterdir())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert root == "/"
    assert folder.parents[1].name == "{{cookiecutter.project_slug}}"
    assert {step["uses"].partition("@")[0] for step in steps if "uses" in step} == {
        "actions/checkout",
        "astral-sh/setup-uv",
    }


def test_the_forms_of_reports_are_valid_for_github() -> None:
    forms = REPOSITORY / ".github" / "ISSUE_TEMPLATE"
    config = forms / "config.yml"

    assert schema("github-issue-config", config).code == 0
    assert schema("github-issue-forms", *({*forms.glob("*.yml")} - {config})).code == 0


#: A `gh` that records its arguments, and has the open reports or the release of a file.
GH = """#!/bin/sh
echo "$@" >> "$RECORD"
case "$2" in list) cat "$FOUND";; view) test -s "$FOUND";; esac
"""


def workflow_of(name: str) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load(
        (REPOSITORY / ".github/workflows" / name).read_text("utf-8")
    )
    return workflow


def commands_of(script: str, found: str, folder: Path, **variables: str) -> list[str]:
    """Run the script of a step as GitHub does; return the arguments of each `gh`."""
    gh, record, file = (folder / name for name in ("gh", "record", "found"))
    gh.write_text(GH)
    gh.chmod(0o755)
    file.write_text(found)
    variables |= {"RECORD": str(record), "FOUND": str(file)}
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, **variables, "PATH": path},
        check=True,
    )
    return record.read_text().splitlines()


@pytest.mark.parametrize(
    ("found", "command"), [("", "issue create --title The weekly run failed"), ("7", "comment 7")]
)
def test_a_failed_weekly_run_is_reported_once(found: str, command: str, tmp_path: Path) -> None:
    (step,) = workflow_of("weekly.yml")["jobs"]["report"]["steps"]

    listed, reported = commands_of(step["run"], found, tmp_path, RUN="https://example.com/runs/1")

    assert listed.startswith("issue list --state open")
    assert command in reported
    assert reported.endswith("https://example.com/runs/1")


@pytest.mark.parametrize(
    ("found", "command"),
    [("", "release create v1.2.3 --verify-tag"), ("v1.2.3", "release upload v1.2.3 --clobber")],
)
def test_a_release_is_published_again_after_a_failure(
    found: str, command: str, tmp_path: Path
) -> None:
    step = workflow_of("release.yml")["jobs"]["publish"]["steps"][-1]
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "a.tar.gz").touch()

    _, published = commands_of(step["run"], found, tmp_path, GITHUB_REF_NAME="v1.2.3")

    assert published.startswith(command)
    assert published.endswith(" dist/a.tar.gz")


def test_nothing_is_published_before_all_tests_have_passed() -> None:
    jobs = workflow_of("release.yml")["jobs"]

    assert jobs["test"]["uses"] == "./.github/workflows/ci.yml"
    assert "test" in jobs["publish"]["needs"]
    assert jobs["render"]["needs"] == "publish"


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
