"""The streaming examples of FastAPI's own guide, as they are and with a failure in them.

The installed package contains the guide; nothing of it is copied here.
"""

import ast
import re
import sys
import types
from collections.abc import AsyncIterable, Iterator
from importlib.resources import files
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from {{cookiecutter.package_name}}.engine import sources

from ..service import Service

GUIDE = files("fastapi") / ".agents/skills/fastapi/references/streaming.md"


def examples() -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    return [block for block in blocks if "@app." in block]


class Item(BaseModel):
    """An item of the examples that define none."""

    name: str = "item"


class Failing(ast.NodeTransformer):
    """Raises an error before or after the items of a generator, or repeats them indefinitely."""

    def __init__(self, change: str) -> None:
        self.change = change

    def visit_FunctionDef(self, node: Any) -> Any:
        is_generator = any(isinstance(each, ast.Yield | ast.YieldFrom) for each in ast.walk(node))
        if is_generator and node.decorator_list:
            error = ast.parse("raise ZeroDivisionError").body[0]
            match self.change:
                case "fails at once":
                    node.body.insert(0, error)
                case "fails":
                    node.body.append(error)
                case "is endless":
                    node.body = [ast.While(ast.Constant(value=True), node.body, [])]
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815


class Image:
    """The image that the examples open with `read_image`."""

    def __enter__(self) -> Iterator[bytes]:
        return iter([b"chunk"])

    def __exit__(self, *_: object) -> None:
        pass

    __iter__ = __enter__


@pytest.fixture
def utils(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that the examples import."""
    package, module = types.ModuleType("app"), types.ModuleType("app.utils")
    module.read_image = Image  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "app", package)
    monkeypatch.setitem(sys.modules, "app.utils", module)


def cases() -> list[tuple[str, str]]:
    """Return the examples with each change that is possible."""
    changes = ["", "fails at once", "fails", "is endless"]
    return [
        (code, change) for code in examples() for change in changes if not change or "yield" in code
    ]


def add(code: str, app: FastAPI, change: str) -> str:
    """Add the path operation of an example, and return its path."""
    tree = ast.fix_missing_locations(Failing(change).visit(ast.parse(code)))
    names: dict[str, Any] = {
        "app": FastAPI(), "AsyncIterable": AsyncIterable, "Item": Item, "items": [Item(), Item()],
    }  # fmt: skip
    exec(compile(tree, "guide", "exec"), names)  # noqa: S102
    example: FastAPI = names["app"]
    app.include_router(example.router)
    return str(re.findall(r'@app\.get\("(.*?)"', code)[0])


def test_the_guide_has_examples() -> None:
    assert len(examples()) >= 4


@pytest.mark.usefixtures("first_item")
@pytest.mark.usefixtures("utils")
@pytest.mark.parametrize(("code", "change"), cases())
async def test_an_example(serve: Any, code: str, change: str) -> None:
    service: Service = await serve()
    path = add(code, service.app, change)
    await service.in_server(rewatch(service.app))

    async with service.client() as client:
        match change:
            case "":
                answer = await client.get(path)
                assert answer.status_code == 200
                assert answer.content
            case "fails at once":
                answer = await client.get(path)
                assert answer.status_code == 500
                assert answer.headers["content-type"] == service.app.state.kernel.media_type
            case "fails":
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get(path)
            case "is endless":
                async with client.stream("GET", path) as answer:
                    await anext(answer.aiter_bytes())
    outcomes = {"": "complete", "is endless": "client_abort"}
    assert await service.outcome_of(f"GET {path}") == outcomes.get(change, "server_error")


async def rewatch(app: FastAPI) -> None:
    """Wrap the path operations, which the application does when it starts."""
    sources.watch(app, app.state.kernel)
