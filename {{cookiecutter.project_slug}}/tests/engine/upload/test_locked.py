"""Another process has locked the catalogue: uploads are refused, and nothing of them is stored."""

from pathlib import Path

import pytest

from {{cookiecutter.package_name}}.engine.storage import catalogue

from ..service import Service
from ..storage.locked import locked
from ..storage.stored import files
from .forms import FORM, file, form
from .uploads import left_behind

pytestmark = pytest.mark.local


@pytest.mark.fault("G18")
@pytest.mark.parametrize("is_form", [False, True])
async def test_an_upload_gets_503_and_leaves_nothing(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_form: bool
) -> None:
    monkeypatch.setattr(catalogue, "WRITE_SECONDS", 0.2, raising=False)
    body = form(file("a", b"hello"), file("b", b"hello")) if is_form else b"hello"
    headers = {"Content-Type": FORM if is_form else "text/plain"}
    async with service.client() as client:
        with locked(tmp_path / "data"):
            response = await client.post("/files", content=body, headers=headers)
        assert response.status_code == 503
        assert "retry-after" in response.headers
        assert await files(service) == []
        assert left_behind(tmp_path) == []
        assert list((tmp_path / "data" / "files").glob("*/*")) == []

        assert (await client.post("/files", content=body, headers=headers)).status_code == 201
