"""Rules for the source, for traps that no request shows reliably."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from {{cookiecutter.package_name}} import engine

SOURCE = Path(str(engine.__file__)).parent
TESTS = Path(__file__).parent

SCOPES = {
    "CancelScope", "TaskGroup", "create_task_group", "fail_after", "move_on_after", "timeout",
    "timeout_at",
}  # fmt: skip
#: They pass the application a request without a socket, and wait for the whole response.
IN_PROCESS = {"ASGITransport", "TestClient"}


def trees(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in folder.rglob("*.py"):
        yield path.name, ast.parse(path.read_text(encoding="utf-8"))


def names(tree: ast.AST) -> set[str]:
    """Return all names that are used or imported."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
    return found


def own(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions within it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from own(node)


def holds_a_scope_across_a_yield(function: ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(node, ast.With | ast.AsyncWith)
        and any(SCOPES & names(item.context_expr) for item in node.items)
        and any(isinstance(inner, ast.Yield) for inner in own(node))
        for node in own(function)
    )


@pytest.mark.trap("R6")
def test_no_generator_holds_a_timeout_or_a_task_group_across_a_yield() -> None:
    """It would cancel the task that runs the generator then; a context manager runs once."""
    held = [
        f"{name}: {function.name}"
        for name, tree in trees(SOURCE)
        for function in ast.walk(tree)
        if isinstance(function, ast.AsyncFunctionDef)
        and not any("asynccontextmanager" in names(each) for each in function.decorator_list)
        and holds_a_scope_across_a_yield(function)
    ]
    assert held == []


@pytest.mark.trap("D11")
def test_no_middleware_hides_an_error_from_the_server() -> None:
    """BaseHTTPMiddleware turns every failure mid-stream into a clean and complete response."""
    hiding = {"BaseHTTPMiddleware", "middleware"}
    assert [name for name, tree in trees(SOURCE) if names(tree) & hiding] == []


@pytest.mark.trap("E11")
@pytest.mark.slow
def test_every_test_talks_to_a_real_server() -> None:
    assert [name for name, tree in trees(TESTS) if names(tree) & IN_PROCESS] == []
