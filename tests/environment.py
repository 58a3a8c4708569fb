"""A virtual environment for all generated projects, created once and cached in `build`.

It contains the dependencies of the full project, but not the project itself, which is added with
PYTHONPATH. Several projects can run in it at the same time.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import Distribution, distributions
from pathlib import Path

from filelock import FileLock
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from uv import find_uv_bin

from answers import REPOSITORY
from baking import Project

KEPT = REPOSITORY / "build" / "environments"
#: The form parser of the code in `naive`.
NAIVE = "python-multipart>=0.0.34"


class Environment:
    """A virtual environment in which generated projects run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.python = path / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(
        self,
        project: Project,
        *command: str,
        folder: str | Path | None = None,
        timeout: float = 600,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment; stderr is part of its output.

        It runs in the project's folder. If it writes files, give it another `folder`.
        """
        bare = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
        source = str(project.path / "src")
        done = subprocess.run(
            [str(self.python.parent / command[0]), *command[1:]],
            cwd=folder or project.path,
            env={**bare, "PYTHONPATH": source, "MYPYPATH": source, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        sys.stdout.write(done.stdout)  # pytest shows it when the test fails
        return done

    @cached_property
    def installed(self) -> dict[NormalizedName, Distribution]:
        """The names of the installed packages."""
        packages = next(self.path.rglob("site-packages"))
        found = distributions(path=[str(packages)])
        return {canonicalize_name(each.name): each for each in found}

    def modules_needed_by(self, project: Project) -> set[str]:
        """Return the top-level modules of a project's direct and indirect dependencies."""
        installed = self.installed
        needed: set[NormalizedName] = set()
        waiting = [Requirement(text) for text in project.metadata["project"]["dependencies"]]
        while waiting:
            requirement = waiting.pop()
            name = canonicalize_name(requirement.name)
            if name in installed and name not in needed:
                needed.add(name)
                waiting += requirements_of(installed[name], requirement.extras)
        return {module for name in needed for module in modules_of(installed[name])}


def requirements_of(distribution: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for text in distribution.requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def modules_of(distribution: Distribution) -> set[str]:
    tops = {path.parts[0].partition(".")[0] for path in distribution.files or []}
    return {top for top in tops if top.isidentifier() and not top.startswith("__")}


def environment_for(
    project: Project, extra: Sequence[str] | None = None, python: str = sys.executable
) -> Environment:
    """Return the environment of a project's dependencies; create it if it does not exist.

    It also contains `extra`, by default those of the project's `dev` group and NAIVE.
    """
    dependencies = project.metadata["project"]["dependencies"]
    if extra is None:
        extra = [*project.metadata["dependency-groups"]["dev"], NAIVE]
    wanted = [version_of(python), dependencies, list(extra)]
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:12]
    path = KEPT / key
    KEPT.mkdir(parents=True, exist_ok=True)
    # Tests run in several processes: one creates the environment, the others wait for it.
    with FileLock(KEPT / f"{key}.lock"):
        finished = path / "finished"
        if not finished.exists():
            uv("venv", "--quiet", "--clear", f"--python={python}", str(path))
            uv(
                # Compile the files, because every process of the tests would compile them again.
                "pip", "install", "--quiet", "--compile-bytecode", f"--python={path}",
                *dependencies, *extra,
            )  # fmt: skip
            finished.touch()
    return Environment(path)


def version_of(python: str) -> str:
    show = [python, "-c", "import sys; print(sys.version, end='')"]
    return subprocess.run(show, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout


def python_of(version: str) -> str | None:
    """Return the interpreter of a version, if the machine has it; pyenv keeps its own off PATH."""
    kept = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/*/bin")
    path = os.pathsep.join([*map(str, kept), os.environ["PATH"]])
    found = subprocess.run(
        [find_uv_bin(), "python", "find", "--no-project", "--no-python-downloads", version],
        cwd=REPOSITORY, env={**os.environ, "PATH": path}, capture_output=True, encoding="utf-8",
        check=False,
    )  # fmt: skip
    return found.stdout.strip() or None


def uv(*arguments: str, directory: Path = REPOSITORY) -> None:
    subprocess.run([find_uv_bin(), *arguments], cwd=directory, check=True)
