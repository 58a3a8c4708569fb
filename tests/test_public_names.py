"""The public names of the engine: `__all__`, the page for owners, and the owners' imports agree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from baking import Project, python_below, tree_of

Names = dict[str, set[str]]

#: A row of the page's table, and its names, with or without a remark in parentheses.
ROW = re.compile(r"^\| `([a-z.]+)` \| (.*) \|$", re.MULTILINE)
NAME = re.compile(r"`(\w+)`")


def declared(project: Project) -> Names:
    """Return the `__all__` of each module of the engine, unless it is empty."""
    engine = project.src / "engine"
    found: Names = {}
    for path in python_below(engine):
        for node in tree_of(path).body:
            match node:
                case ast.Assign(targets=[ast.Name("__all__")], value=value):
                    folders = path.relative_to(engine).with_suffix("").parts
                    parts = [part for part in folders if part != "__init__"]
                    found[".".join(parts)] = set(ast.literal_eval(value))
    return found


def documented(project: Project) -> Names:
    """Return the names of the page's table, by module."""
    page = (project.path / "docs/extending.md").read_text("utf-8")
    table = page.partition("## The engine's names")[2]
    return {
        module: set(NAME.findall(re.sub(r"\(.*?\)", "", text)))
        for module, text in ROW.findall(table)
    }


def imported(path: Path) -> Names:
    """Return the names that a file of the owner imports from the engine."""
    found: Names = {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and re.match(r"engine(\.|$)", node.module or ""):
            module = str(node.module).removeprefix("engine").removeprefix(".")
            found.setdefault(module, set()).update(each.name for each in node.names)
    return found


@pytest.fixture(scope="module")
def names(complete: Project) -> Names:
    return declared(complete)


def test_the_page_has_the_names_that_the_engine_declares_and_no_others(
    complete: Project, names: Names
) -> None:
    assert len(names) > 8
    assert documented(complete) == names


def test_every_room_declares_its_names(complete: Project, names: Names) -> None:
    rooms = {path.parent.name for path in complete.src.glob("engine/*/__init__.py")}
    missing = {room for room in rooms if room not in names}

    assert missing == {"check", "objects", "observability"}  # All names are for the engine.


def test_the_owners_side_imports_public_names_only(complete: Project, names: Names) -> None:
    found = [
        f"{path.name}: {module}.{name}"
        for path in python_below(complete.src)
        if not path.is_relative_to(complete.src / "engine")
        for module, used in imported(path).items()
        for name in used - names.get(module, set())
    ]

    assert found == []


def test_every_public_name_is_explained_where_it_is_defined(
    complete: Project, names: Names
) -> None:
    public = {name for each in names.values() for name in each}
    engine = python_below(complete.src / "engine")
    explained = {name for path in engine for name in explained_in(path, public)}

    assert public - explained == set()


def explained_in(path: Path, public: set[str]) -> Iterator[str]:
    """Yield the names that a module defines with a docstring, or with a comment above."""
    lines = path.read_text("utf-8").splitlines()
    body = tree_of(path).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        match node:
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                text = ast.get_docstring(node)
            case ast.Assign(targets=[ast.Name(name)]):
                above = lines[node.lineno - 2]
                below = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                text = above if below or above.startswith("#:") else None
            case _:
                continue
        if name in public and text is not None:
            yield name
