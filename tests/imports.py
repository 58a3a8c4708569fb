"""Imports of Python files, read from their syntax without installing anything."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from baking import python_below

#: Modules whose distribution has another name, or is a dependency of another one.
DISTRIBUTIONS = {
    "backports": "backports.zstd",
    "httptools": "uvicorn",
    "opentelemetry": "opentelemetry-api",
}
#: Including modules of newer Python versions.
PYTHONS_OWN = sys.stdlib_module_names | {"compression"}


def imported(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return _imported(path.read_text("utf-8"))


@cache
def _imported(text: str) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports of a source text; cached, because projects share files."""
    nodes = ast.walk(ast.parse(text))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def absolute(path: Path) -> set[str]:
    """Return the top-level modules of a file's absolute imports, without the standard library."""
    found = set()
    for node in imported(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif not node.level:
            found.add(str(node.module).partition(".")[0])
    return found - PYTHONS_OWN


def leading_out(folder: Path) -> Iterator[str]:
    """Yield the relative imports in a folder that leave the folder."""
    for path in python_below(folder):
        for node in imported(path):
            level = node.level if isinstance(node, ast.ImportFrom) else 0
            if level and not path.parents[level - 1].is_relative_to(folder):
                yield f"{path.relative_to(folder)}:{node.lineno}: {ast.unparse(node)}"


def distribution(module: str) -> str:
    return DISTRIBUTIONS.get(module, module.replace("_", "-"))


def dangling(path: Path) -> Iterator[str]:
    """Yield the relative imports of a file that cannot be resolved."""
    for node in imported(path):
        if isinstance(node, ast.ImportFrom) and node.level:
            target = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            names = names_in(target)
            if unknown := {alias.name for alias in node.names} - names:
                yield f"{path.name}:{node.lineno}: {node.module or '.'} has no {sorted(unknown)}"


@cache
def names_in(module: Path) -> frozenset[str]:
    """Return the names that can be imported from a module or package."""
    if module.is_dir():
        submodules = {path.stem for path in module.iterdir() if path.suffix in {".py", ""}}
        module = module / "__init__.py"
    else:
        submodules = set()
        module = module.with_name(f"{module.name}.py")
    own = bound_in(module.read_text("utf-8")) if module.is_file() else set()
    return frozenset(submodules | own)


@cache
def bound_in(text: str) -> set[str]:
    """Return the names that the text of a module binds at its top level."""
    bound = set()
    for node in top_level(ast.parse(text).body):
        match node:
            case ast.Import() | ast.ImportFrom():
                bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                bound |= {
                    name.id for t in targets for name in ast.walk(t) if isinstance(name, ast.Name)
                }
    return bound


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run at import, including those in `if` and `try`."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            handlers = [handler.body for handler in getattr(node, "handlers", [])]
            for nested in [node.body, node.orelse, *handlers]:
                yield from top_level(nested)


def graph_of(package: Path) -> dict[str, set[str]]:
    """Return the modules of a package, and which of them each imports, wherever it does so.

    Imports for types only count, and those inside of functions.
    """
    files = {name_of(path, package): path for path in python_below(package)}
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in imported(path):
            if isinstance(node, ast.ImportFrom) and node.level:
                place = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                for alias in node.names:
                    found = {name_of(place / f"{alias.name}.py", package), name_of(place, package)}
                    # A submodule, or else a name in the module.
                    graph[name] |= set(sorted(found & files.keys(), key=len)[-1:]) - {name}
    return graph


def name_of(path: Path, package: Path) -> str:
    parts = [part.removesuffix(".py") for part in path.relative_to(package).parts]
    return ".".join(part for part in parts if part != "__init__")


def circle_in(package: Path) -> list[str]:
    """Return the modules of one circle of imports, empty without any."""
    try:
        TopologicalSorter(graph_of(package)).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []
