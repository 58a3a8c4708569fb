"""Shared fixtures: the template and generated projects. In CI, skipped tests are failures."""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from xdist.scheduler import LoadScopeScheduling

from answers import EVERYTHING, OPEN, Answer
from baking import Bake, Project, bake_again, copy_of_the_template
from environment import Environment, environment_for
from groups import group_of
from tools import program


@pytest.fixture(scope="session", autouse=True)
def _nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Isolate the tests from the settings of the user, and the settings from the tests."""
    folder = tmp_path_factory.mktemp("settings")
    config = folder / "cookiecutter.yaml"
    config.write_text(
        f"cookiecutters_dir: '{folder / 'templates'}'\nreplay_dir: '{folder / 'replay'}'\n", "utf-8"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COOKIECUTTER_CONFIG", str(config))
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        for name in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{name}_NAME", "Test")
            patch.setenv(f"GIT_{name}_EMAIL", "test@example.com")
        # The tests run in an environment of uv; their subprocesses do not.
        patch.delenv("VIRTUAL_ENV", raising=False)
        patch.setenv("PYTHONUTF8", "1")
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the template like a clone."""
    return copy_of_the_template(tmp_path_factory.mktemp("template") / "template")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of this run, which all processes of pytest-xdist share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(name="bake")
def _bake(template: Path, shared: Path, tmp_path: Path) -> Bake:
    """Generate projects in a temporary folder of the test."""

    def bake_here(output: Path = tmp_path / "projects", **answers: Answer) -> Project:
        return bake_again(template, shared / "projects", output, **answers)

    return bake_here


@pytest.fixture(scope="session")
def bake_once(template: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Generate projects that several tests share."""

    def bake_shared(**answers: Answer) -> Project:
        output = tmp_path_factory.mktemp("shared-project")
        return bake_again(template, shared / "projects", output, **answers)

    return bake_shared


@pytest.fixture(scope="session")
def full(bake_once: Bake) -> Project:
    """Generate the project with all modules, whose clients need no key."""
    return bake_once(**OPEN)


@pytest.fixture(scope="session")
def complete(bake_once: Bake) -> Project:
    """Generate the project with all modules and access control."""
    return bake_once(**EVERYTHING)


@pytest.fixture(autouse=True)
def _shared_projects_keep_their_files(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that adds files to a project of other tests, or removes some."""
    names = {"full", "complete"} & {*request.fixturenames}
    projects: list[Project] = [request.getfixturevalue(name) for name in sorted(names)]
    before = [project.files() for project in projects]
    yield
    assert [project.files() for project in projects] == before


@pytest.fixture(scope="session")
def environment(full: Project) -> Environment:
    """Install the dependencies of all generated projects."""
    return environment_for(full)


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the scripts of clients to a folder with their packages."""
    folder = tmp_path_factory.mktemp("clients") / "scripts"
    return Path(shutil.copytree(Path(__file__).parent / "clients", folder))


@pytest.fixture(scope="session")
def node(scripts: Path, shared: Path) -> str:
    """Return Node, with the packages that the scripts import, which are installed once."""
    npm, folder = program("npm"), shared / "node"
    quiet = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]
    with FileLock(shared / "node.lock"):
        if not folder.exists():
            installed = shared / "node-unfinished"
            installed.mkdir(exist_ok=True)
            shutil.copy(scripts / "package.json", installed)
            subprocess.run([npm, "install", "--loglevel=error", *quiet], cwd=installed, check=True)
            installed.rename(folder)
    shutil.copytree(folder / "node_modules", scripts / "node_modules", symlinks=True)
    return program("node")


@pytest.fixture(scope="session")
def chromium() -> str:
    return program("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that no process waits for them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = group_of
    return scheduler


def pytest_xdist_auto_num_workers() -> int:
    """Use more processes than cores, because the tests mostly wait for servers and deadlines."""
    return (os.cpu_count() or 1) * 3 // 2


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the projects that the tests have generated."""
    if report.when == "call":
        GENERATED.update({k: v for k, v in report.user_properties if isinstance(v, int)})


GENERATED: Counter[str] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, count in sorted(GENERATED.items()):
        terminalreporter.write_line(f"{what}: {count}")


def _unwanted(skip: pytest.TestReport | pytest.CollectReport) -> bool:
    return skip.skipped and not hasattr(skip, "wasxfail") and os.environ.get("CI") == "true"


def _fail(skip: pytest.TestReport | pytest.CollectReport) -> None:
    reason = skip.longrepr[2] if isinstance(skip.longrepr, tuple) else skip.longrepr
    skip.outcome = "failed"
    skip.longrepr = f"In CI nothing may be skipped, but: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in CI, which provides everything that the tests need."""
    report = yield
    if _unwanted(report) and not item.get_closest_marker("platform_only"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that is skipped completely."""
    report = yield
    if _unwanted(report):
        _fail(report)
    return report
