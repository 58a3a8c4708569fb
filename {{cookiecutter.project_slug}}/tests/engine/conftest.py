"""Fixtures: the service with small limits, and its own directory."""

import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter

from {{cookiecutter.package_name}}.settings import Settings

from . import stores
from .service import Service

#: The tests that also run with access control, in which the clients of the others would need a key.
WITH_KEYS = {
    *("download/test_documentation.py", "download/test_zip.py"),
    *("errors/test_errors.py", "errors/test_problems.py", "errors/test_rows.py"),
    *("plain/test_documentation.py", "realtime/test_bodies.py"),
    *(f"resumable/test_{name}.py" for name in ("draft", "documentation", "pieces", "unusable")),
    *(f"storage/test_{name}.py" for name in ("conditional", "names", "unusable")),
    *(f"streams/test_{name}.py" for name in ("codings", "structured")),
    *(f"test_{name}.py" for name in ("docs", "handlers", "health", "limits", "openapi", "parts")),
    *(f"test_{name}.py" for name in ("processes", "rules", "server", "service", "web")),
    *(f"upload/test_{name}.py" for name in ("content_types", "csv", "pieces", "rows")),
}
FOLDER = Path(__file__).parent
HAS_ACCESS = (FOLDER / "access").is_dir()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests that need a project without access control."""
    name = collection_path.relative_to(FOLDER).as_posix() if HAS_ACCESS else ""
    is_chosen = name.startswith(("access", "check", "realtime/access")) or name in WITH_KEYS
    return True if name.endswith(".py") and "test_" in name and not is_chosen else None


#: FastAPI hides this warning, but not from other threads, in which tests run further services.
OF_FASTAPI = "ignore::pydantic.warnings.UnsupportedFieldAttributeWarning"


def pytest_configure(config: pytest.Config) -> None:
    if stores.SERVER:
        config.add_cleanup(stores.start())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Make warnings errors in this folder only; with S3, leave out tests of directories."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("error", OF_FASTAPI))
    if stores.SERVER:
        config.hook.pytest_deselected(items=[each for each in items if is_local(each)])
        items[:] = [each for each in items if not is_local(each)]


def is_local(item: pytest.Item) -> bool:
    return item.get_closest_marker("local") is not None


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """Restore the root logger, which `serve` sets up for a process of its own."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable the garbage collector: a source is closed explicitly or not at all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sections(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The default settings of tests, for the modules that the service has."""
    wanted: dict[str, dict[str, Any]] = {
        "streaming": {"idle_timeout": 0.4, "send_timeout": 0.4},
        "access": {"database": tmp_path / "access.sqlite3"},
        "storage": {"url": f"file:{tmp_path / 'data'}"},
        "upload": {"max_size": "64 MiB"},
    }
    return {name: section for name, section in wanted.items() if name in Settings.model_fields}


@pytest.fixture
async def serve(
    sections: dict[str, dict[str, Any]],
) -> AsyncIterator[Callable[..., Any]]:
    """Start services with additional routes, or with other settings."""
    async with AsyncExitStack() as stack:

        async def start(*routers: APIRouter, **changes: dict[str, Any]) -> Service:
            names = sections.keys() | changes.keys()
            merged = {name: sections.get(name, {}) | changes.get(name, {}) for name in names}
            return await stack.enter_async_context(Service(*routers, **merged))

        yield start


@pytest.fixture
async def service(serve: Callable[..., Any]) -> Service:
    """The service, running."""
    started: Service = await serve()
    return started
