"""If a release of uvicorn lacks a name that the engine uses, the service does not start.

The fakes are uvicorn itself, with one of its names replaced.
"""

import ast
import asyncio
import inspect
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import uvicorn

from {{cookiecutter.package_name}}.engine import server
from {{cookiecutter.package_name}}.engine.server import uvicorn_names

NAMES = uvicorn_names.NAMES
#: One of each kind: a method, an attribute, a function, a class.
KINDS = ["_unset_keepalive_if_required", "pipeline", "_parse_host_port", "HttpToolsProtocol"]
HTTP = "uvicorn.protocols.http.httptools_impl"
WEBSOCKET = "uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol"
#: The variables for objects of a class in the engine's files.
USERS: dict[str, tuple[set[str], list[str]]] = {
    f"{HTTP}.HttpToolsProtocol": ({"self"}, ["http_connection.py", "parse_scheduler.py"]),
    f"{HTTP}.RequestResponseCycle": (
        {"cycle", "self.cycle", "self._cycle", "self._running"},
        ["asgi.py", "direct.py", "http_connection.py", "sendfile.py"],
    ),
    WEBSOCKET: ({"self"}, ["websocket.py", "parse_scheduler.py"]),
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def renamed(module: ModuleType, name: str) -> ModuleType:
    """Return a copy of a module in which a name is replaced."""
    lines = inspect.getsource(module).splitlines()
    changed = [
        line if re.match(r"\s*(from|import) ", line) else re.sub(rf"\b{name}\b", "renamed", line)
        for line in lines
    ]
    fake = ModuleType(module.__name__)
    fake.__package__ = module.__package__
    exec(compile("\n".join(changed), str(module.__file__), "exec"), fake.__dict__)  # noqa: S102
    return fake


def module_of(path: str) -> str:
    """Return the module of a class or of a module."""
    return path if path.islower() else path.rpartition(".")[0]


def test_this_uvicorn_has_all_names() -> None:
    assert list(uvicorn_names.missing(NAMES)) == []


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in NAMES.items() for name in names]
)
def test_each_name_that_is_missing_is_found(
    path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module(module_of(path))
    monkeypatch.setitem(sys.modules, module.__name__, renamed(module, name))

    assert list(uvicorn_names.missing({path: {name: ""}})) == [f"{path}.{name}"]


@pytest.mark.parametrize("path", NAMES)
def test_a_class_or_module_that_is_missing_is_found(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module_of(path), None)

    assert list(uvicorn_names.missing({path: NAMES[path]})) == [path]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_the_service_does_not_start_without_a_name(name: str, tmp_path: Path) -> None:
    shutil.copytree(Path(uvicorn.__file__).parent, tmp_path / "uvicorn")
    for path in (tmp_path / "uvicorn").rglob("*.py"):
        path.write_text(re.sub(rf"\b{name}\b", "renamed", path.read_text("utf-8")), "utf-8")
    search = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    ended = subprocess.run(
        [sys.executable, "-m", "{{cookiecutter.package_name}}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search, "APP_SERVER__PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"uvicorn {uvicorn.__version__} has no uvicorn.")
    assert re.search(rf"\.{name}\b", line)


def names_of(owner: type) -> set[str]:
    """Return the methods of a class and the attributes that they set, beyond asyncio's."""
    nodes = list(ast.walk(ast.parse(inspect.getsource(owner))))
    methods = {each.name for each in nodes if isinstance(each, FUNCTIONS)}
    attributes = [each for each in nodes if isinstance(each, ast.Attribute)]
    own = {each.attr for each in attributes if ast.unparse(each.value) == "self"}
    return (methods | own) - set(dir(asyncio.Protocol))


def used(receivers: set[str], files: list[str]) -> set[str]:
    """Return the attributes of these receivers, and the methods in files that use `self`."""
    found: set[str] = set()
    for name in files:
        path = Path(str(server.__file__)).with_name(name)
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8")))) if path.exists() else []
        attributes = [each for each in nodes if isinstance(each, ast.Attribute)]
        found |= {each.attr for each in attributes if ast.unparse(each.value) in receivers}
        if "self" in receivers:
            found |= {each.name for each in nodes if isinstance(each, FUNCTIONS)}
    return found


@pytest.mark.parametrize("path", USERS)
def test_every_name_that_the_package_uses_is_in_the_table(path: str) -> None:
    module, _, name = path.rpartition(".")
    owner = getattr(import_module(module), name)

    assert used(*USERS[path]) & names_of(owner) <= NAMES[path].keys()
