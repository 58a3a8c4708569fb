"""Tests written like the tutorials, which all pass on the service with every trap."""

from pathlib import Path
from typing import Any

import httpx
from streaming_service.app import create_app
from streaming_service.settings import Settings


def client(directory: Path) -> httpx.AsyncClient:
    make: Any = Settings
    app = create_app(make(_env_file=None, storage={"url": f"file:{directory}"}))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_an_upload_can_be_downloaded(tmp_path: Path) -> None:
    async with client(tmp_path) as web:
        assert (await web.post("/files?filename=a", content=b"x" * 1000)).status_code == 201
        assert (await web.get("/files/a")).content == b"x" * 1000


async def test_an_export_has_its_lines(tmp_path: Path) -> None:
    async with client(tmp_path) as web:
        answer = await web.get("/exports/lines?count=3&fail_after=2")
        assert answer.status_code == 200
        assert len(answer.text.splitlines()) == 2
