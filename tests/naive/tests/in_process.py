"""Tests as the tutorials write them: all of them pass on the service that falls into every trap."""

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from streaming_service.app import create_app
from streaming_service.settings import Settings


def test_an_upload_can_be_downloaded(tmp_path: Path) -> None:
    make: Any = Settings
    with TestClient(create_app(make(storage={"url": f"file:{tmp_path}"}))) as client:
        assert client.post("/files?filename=a", content=b"x" * 1000).status_code == 201
        assert client.get("/files/a").content == b"x" * 1000


def test_an_export_has_its_lines(tmp_path: Path) -> None:
    make: Any = Settings
    with TestClient(create_app(make(storage={"url": f"file:{tmp_path}"}))) as client:
        answer = client.get("/exports/lines?count=3&fail_after=2")
        assert answer.status_code == 200
        assert len(answer.text.splitlines()) == 2
