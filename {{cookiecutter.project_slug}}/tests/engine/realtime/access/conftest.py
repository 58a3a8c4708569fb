"""Fixtures: the service with more streams, and the end of a key."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter, WebSocket
from fastapi.sse import EventSourceResponse
from httpx import AsyncClient

from {{cookiecutter.package_name}}.engine.access import keys
from {{cookiecutter.package_name}}.engine.access.database import LocalDatabase
from {{cookiecutter.package_name}}.engine.access.store import KeyStore

from ...access.conftest import _no_secret_in_the_log, secrets
from ...service import Service
from ..runs import Script


@pytest.fixture(params=["revoked", "expired"])
def end_key(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Make the key with a name invalid, as another process would."""

    def end(name: str) -> None:
        if request.param == "expired":
            later = SimpleNamespace(time=lambda: 4e9)
            monkeypatch.setattr(keys, "time", later)
        else:
            store = KeyStore(LocalDatabase(tmp_path / "access.sqlite3"), frozenset)
            assert store.revoke(name)
            store.close()

    return end


__all__ = ["_no_secret_in_the_log", "secrets"]  # Fixtures.


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def service(serve: Callable[..., Any], script: Script) -> Service:
    """The service with a run and with streams of the owner."""
    router = APIRouter()

    @router.get("/native", response_class=EventSourceResponse)
    async def native() -> AsyncIterator[str]:
        yield "first"
        await asyncio.Event().wait()

    @router.get("/silent", response_class=EventSourceResponse)
    async def silent() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield "never"

    @router.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    @router.websocket("/feed")
    async def feed(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("first")
        await asyncio.Event().wait()

    started: Service = await serve(script.router, router)
    return started


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncClient]:
    """An anonymous client."""
    async with service.client() as client:
        del client.headers["Authorization"]
        yield client
