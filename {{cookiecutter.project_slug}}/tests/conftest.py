"""Fixtures: the service on a free port, and a client."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.testing import LiveServer, log_to_pytest
from {{cookiecutter.package_name}}.settings import Settings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_configure(config: pytest.Config) -> None:
    log_to_pytest(config)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that ignore `.env`, and store files in a temporary directory."""
    monkeypatch.chdir(tmp_path)
    return Settings.model_validate({"storage": {"url": "file:./data"}})


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[LiveServer]:
    """The running service; clients connect to `service.url`."""
    async with LiveServer(create_app(settings)) as service:
        yield service


@pytest.fixture
async def client(service: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as client:
        yield client
