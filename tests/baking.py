"""Generate projects from a clean copy of the template, without changes outside of a folder."""

import ast
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cookiecutter.main import cookiecutter
from filelock import FileLock

from answers import REPOSITORY, Answer

#: Files that tools create in a work tree, which are not part of the template.
LEFTOVERS = (
    ".git", ".tools", ".venv", "venv", "build", "dist", "node_modules", "uv.lock", ".coverage",
    ".hypothesis", "__pycache__", "*.pyc", "*.egg-info", ".*_cache",
)  # fmt: skip
TEMPLATE_FOLDER = "{{cookiecutter.project_slug}}"
#: The engine in the template; it is copied without rendering.
ENGINE = f"{TEMPLATE_FOLDER}/src/{{{{cookiecutter.package_name}}}}/engine"


@dataclass(frozen=True)
class Project:
    """A generated project."""

    path: Path
    package: str
    answers: Mapping[str, Answer]

    @property
    def src(self) -> Path:
        """The folder of the package."""
        return self.path / "src" / self.package

    @property
    def name(self) -> str:
        """A name for messages: the answers that differ from the defaults."""
        return " ".join(f"{key}={value}" for key, value in self.answers.items())

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return tomllib.loads((self.path / "pyproject.toml").read_text("utf-8"))

    def files(self) -> set[str]:
        """Return the relative paths of all files, with slashes."""
        return {path.relative_to(self.path).as_posix() for path in files_below(self.path)}


#: `bake` without its folders, which the fixtures provide.
Bake = Callable[..., Project]


def copy_of_the_template(target: Path, source: Path = REPOSITORY) -> Path:
    """Copy the work tree without files of tools, which would be generated otherwise."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFTOVERS), symlinks=True)
    return target


def bake(template: Path, output: Path, **answers: Answer) -> Project:
    """Generate a project like `cookiecutter --no-input`, including the hooks."""
    output.mkdir(parents=True, exist_ok=True)
    path = Path(
        cookiecutter(
            str(template),
            no_input=True,
            extra_context=answers,
            output_dir=str(output),
        )
    )
    (package,) = (path / "src").iterdir()
    return Project(path, package.name, answers)


def bake_again(template: Path, kept: Path, output: Path, **answers: Answer) -> Project:
    """Copy a project that was generated before with the same answers, or generate it.

    The folder `kept` is for one state of the template. Several processes may share it.
    """
    kept.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()[:16]
    finished = kept / f"{key}.finished"
    with FileLock(kept / f"{key}.lock"):
        if not finished.exists():
            bake(template, kept / key, **answers)
            finished.touch()
    (original,) = (kept / key).iterdir()
    path = output / original.name
    shutil.copytree(original, path, symlinks=True)
    (package,) = (path / "src").iterdir()
    return Project(path, package.name, answers)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, except those of tools."""
    leftover = shutil.ignore_patterns(*LEFTOVERS)
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - leftover(parent, folders))
        yield from (Path(parent, name) for name in sorted(set(names) - leftover(parent, names)))


def python_below(folder: Path) -> Iterator[Path]:
    return (path for path in files_below(folder) if path.suffix == ".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))
