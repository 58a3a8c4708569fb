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

from .service import Service

#: FastAPI hides this warning, but not from other threads, in which tests run further services.
OF_FASTAPI = "ignore::pydantic.warnings.UnsupportedFieldAttributeWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make warnings errors in this folder only."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("error", OF_FASTAPI))


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
