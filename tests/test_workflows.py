"""Check workflows, pipelines, container and compose files with linters and schemas, offline."""

import os
import subprocess
from pathlib import Path

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


def test_the_forms_of_reports_are_valid_for_github() -> None:
    forms = REPOSITORY / ".github" / "ISSUE_TEMPLATE"
    config = forms / "config.yml"

    assert schema("github-issue-config", config).code == 0
    assert schema("github-issue-forms", *({*forms.glob("*.yml")} - {config})).code == 0


#: A `gh` that records its arguments, and has the open reports of a file.
GH = """#!/bin/sh
echo "$@" >> "$RECORD"
case "$2" in list) cat "$OPEN";; esac
"""


@pytest.mark.parametrize(
    ("found", "command"), [("", "issue create --title The weekly run failed"), ("7", "comment 7")]
)
def test_a_failed_weekly_run_is_reported_once(found: str, command: str, tmp_path: Path) -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/weekly.yml").read_text("utf-8"))
    (step,) = workflow["jobs"]["report"]["steps"]
    gh, record, reports = (tmp_path / name for name in ("gh", "record", "reports"))
    gh.write_text(GH)
    gh.chmod(0o755)
    reports.write_text(found)
    variables = {"RECORD": str(record), "OPEN": str(reports), "RUN": "https://example.com/runs/1"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    # GitHub runs the steps of a job with these options.
    subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
        env={**os.environ, **variables, "PATH": path},
        check=True,
    )

    listed, reported = record.read_text().splitlines()
    assert listed.startswith("issue list --state open")
    assert command in reported
    assert reported.endswith("https://example.com/runs/1")


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
