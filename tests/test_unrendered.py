"""The unrendered template can be parsed by editors and linters.

Conditionals are comments, and rendered values are in strings.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from baking import TEMPLATE_FOLDER, Project, files_below, python_below, tree_of
from imports import absolute, distribution
from tools import run


@pytest.fixture(scope="module")
def unrendered(template: Path) -> Path:
    return template / TEMPLATE_FOLDER


@pytest.fixture(scope="module")
def src(unrendered: Path) -> Path:
    return unrendered / "src"


def test_every_python_file_below_src_parses(src: Path) -> None:
    parsed = [tree_of(path) for path in python_below(src)]

    assert len(parsed) > 20


def test_the_source_obeys_the_rules_of_a_generated_project(src: Path) -> None:
    # Three rules need a rendered file: the name of the package, the order of its imports, and
    # duplicate fields of a class, which the branches of an `elif` contain.
    checked = run("ruff", "check", "--no-fix", "--no-cache", "--ignore=I001,N999,PIE794", src)

    assert checked.code == 0


def test_ruff_reads_every_file_by_the_rules_of_a_generated_project(
    unrendered: Path, src: Path
) -> None:
    settings = run("ruff", "check", "--no-cache", "--show-settings", src).output
    files = run("ruff", "check", "--no-cache", "--show-files", src).output

    assert f'Settings path: "{unrendered / "pyproject.toml"}"' in settings
    assert len(files.splitlines()) == len(list(python_below(src)))


def test_own_code_is_imported_relatively(src: Path, full: Project) -> None:
    requirements = [
        *full.metadata["project"]["dependencies"],
        *full.metadata["dependency-groups"]["dev"],  # Dependencies of `testing.py`.
    ]
    foreign = {
        f"{path.name}: {module}"
        for path in python_below(src)
        for module in absolute(path)
        if not any(text.startswith(distribution(module)) for text in requirements)
    }

    assert foreign == set()


def test_only_the_wiring_and_the_settings_of_the_owner_have_conditional_lines(src: Path) -> None:
    (package,) = src.iterdir()
    conditional = {
        path.relative_to(package).as_posix()
        for path in python_below(package)
        if "{%" in path.read_text("utf-8")
    }

    assert conditional == {"app.py", "settings.py"}


def test_no_test_of_a_project_has_conditional_lines(unrendered: Path) -> None:
    tests = list(python_below(unrendered / "tests"))
    conditional = [path.name for path in tests if "{%" in path.read_text("utf-8")]

    assert tests
    assert conditional == []


def test_no_f_string_has_a_brace_of_its_own(src: Path) -> None:
    # Jinja would treat a doubled brace as the start of an expression.
    doubled = [
        f"{path.name}:{part.lineno}"
        for path in python_below(src)
        for part in literal_parts(tree_of(path))
        if "{" in str(part.value) or "}" in str(part.value)
    ]

    assert doubled == []


def literal_parts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the literal parts of f-strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield from (part for part in node.values if isinstance(part, ast.Constant))


@pytest.mark.parametrize("suffix", [".toml", ".yaml", ".yml"])
def test_configuration_parses(suffix: str, unrendered: Path) -> None:
    parse = tomllib.loads if suffix == ".toml" else yaml.safe_load
    files = [path for path in files_below(unrendered) if path.suffix == suffix]

    assert files
    for path in files:
        assert parse(path.read_text("utf-8")), path
