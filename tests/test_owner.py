"""After typical changes by its owner, a project still passes every check.

Owners add code, delete examples and reorder lines, without changing the engine or a configuration.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from answers import EVERYTHING, Answers, only
from baking import Bake, Project
from environment import Environment, environment_for
from owner import ADDED, ADDED_FILES, Edits

pytestmark = pytest.mark.long

FULL: Answers = EVERYTHING | {"engine_tests": False}
ERRORS: Answers = only("use_error_handling") | {"use_demo_page": False}
#: The code of each example in `app.py`, except for its import, and its replacement.
EXAMPLES: dict[str, tuple[str, str]] = {
    "chat": ("    app.include_router(chat.router)\n", ""),
    "exports": ("    app.include_router(exports.router)\n", ""),
    "files": ("Files(files.callbacks, file_events)", "Files(file_events)"),
    "ingest": ("    app.include_router(ingest.router)\n", ""),
    "runs": ("    app.include_router(runs.router)\n", ""),
    "transforms": ("    app.include_router(transforms.router)\n", ""),
    "web": ("    app.include_router(web.router)\n", ""),
}
#: Prints a description of the service that does not depend on the order of routes.
DESCRIBE = "import json; from {}.app import create_app; print(json.dumps({}, sort_keys=True))"


@pytest.fixture(scope="module")
def owners(bake_once: Bake) -> Environment:
    """An environment for the full project with the dependency that an owner adds."""
    project = bake_once(**FULL)
    edit(project, ADDED)
    return environment_for(project)


@pytest.fixture(name="check", scope="module")
def _check(owners: Environment, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Run every check of a project; each must pass."""
    cache = tmp_path_factory.mktemp("mypy")

    def check(project: Project) -> None:
        for command in (
            ["ruff", "check", "--no-cache"],
            ["ruff", "format", "--check", "--no-cache"],
            ["mypy", f"--cache-dir={cache}"],
            ["lint-imports", "--no-cache"],
            ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        ):
            assert owners.run(project, *command).returncode == 0, command

    return check


def edit(project: Project, edits: Edits) -> None:
    """Replace texts in files; each must occur once."""
    for name, changes in edits.items():
        path = project.path / name.format(package=project.package)
        text = path.read_text("utf-8")
        for old, new in changes:
            assert text.count(old) == 1, f"{name} has {text.count(old)} of {old!r}"
            text = text.replace(old, new)
        path.write_text(text, "utf-8")


def add_orders(project: Project) -> None:
    for name, text in ADDED_FILES.items():
        path = project.path / name.format(package=project.package)
        path.write_text(text.replace("PACKAGE", project.package), "utf-8")
    edit(project, ADDED)


@pytest.mark.parametrize("answers", [FULL, ERRORS], ids=["full", "errors"])
def test_additions_of_an_owner_pass_every_check(
    answers: Answers, bake: Bake, check: Callable[..., None]
) -> None:
    project = bake(**answers)

    add_orders(project)

    check(project)


@pytest.mark.parametrize("example", EXAMPLES)
def test_any_example_can_be_removed(example: str, bake: Bake, check: Callable[..., None]) -> None:
    project = bake(**FULL)

    remove(project.src / f"{example}.py", project.src / example)
    remove(project.path / f"tests/test_{example}.py")
    edit(project, {"src/{package}/app.py": [(f"    {example},\n", ""), EXAMPLES[example]]})

    check(project)


def remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def test_lines_of_the_application_may_be_swapped(bake: Bake, owners: Environment) -> None:
    project = bake(**FULL)
    add_orders(project)
    described = describe(project, owners)
    app = project.src / "app.py"
    written = app.read_text("utf-8")

    for order in orders_of(written):
        app.write_text(order, "utf-8")

        assert order != written
        assert describe(project, owners) == described
        tested = owners.run(project, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
        assert tested.returncode == 0


def orders_of(text: str) -> Iterator[str]:
    """Yield the source of the application with its parts and routers in other orders."""
    head, parts, middle, lines, tail = cut(
        text,
        "        settings or Settings(),\n",
        "        lifespan=",
        "    )\n",
        "    return app\n",
    )
    yield "".join([head, *reversed(parts), *middle, *reversed(lines), tail])
    shuffle = random.Random(2).sample  # noqa: S311  # Reproducible orders.
    for _ in range(2):
        yield "".join(
            [head, *shuffle(parts, len(parts)), *middle, *shuffle(lines, len(lines)), tail]
        )


def cut(
    text: str, before_parts: str, after_parts: str, before_lines: str, after_lines: str
) -> tuple[str, list[str], list[str], list[str], str]:
    head, parts = text.split(before_parts)
    parts, middle = parts.split(after_parts)
    middle, lines = middle.split(before_lines)
    lines, tail = lines.split(after_lines)
    return (
        head + before_parts,
        parts.splitlines(keepends=True),
        [after_parts, middle, before_lines],
        lines.splitlines(keepends=True),
        after_lines + tail,
    )


def describe(project: Project, environment: Environment) -> str:
    """Return the OpenAPI document of the service."""
    script = DESCRIBE.format(project.package, "create_app().openapi()")
    described = environment.run(project, "python", "-W", "error", "-c", script)
    assert described.returncode == 0
    return described.stdout
