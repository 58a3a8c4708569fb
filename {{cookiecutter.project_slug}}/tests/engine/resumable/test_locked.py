"""Another process has locked the catalogue: uploads keep their bytes, and complete later."""

from pathlib import Path

import pytest

from {{cookiecutter.package_name}}.engine.storage import catalogue

from ..service import Service
from ..storage.locked import locked
from ..storage.stored import bytes_of, files
from . import draft
from .tus import Tus, id_of

pytestmark = pytest.mark.local


@pytest.mark.fault("G18")
async def test_an_upload_by_tus_keeps_its_bytes(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "WRITE_SECONDS", 0.2, raising=False)
    async with Tus(service) as tus:
        url = await tus.upload(6, body=b"abc")
        with locked(tmp_path / "data"):
            created = await tus.create({"Upload-Length": "1"})
            appended = await tus.patch(url, 3, b"d")
            assert await tus.offset(url) == 4
            completed = await tus.patch(url, 4, b"ef")
            deleted = await tus.delete(url)
        assert await files(service) == []
        assert await tus.offset(url) == 6

    assert appended.status_code == 204
    for refused in (created, completed, deleted):
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
    assert await bytes_of(service, id_of(url)) == b"abcdef"


@pytest.mark.fault("G18")
async def test_an_upload_by_the_draft_keeps_its_bytes(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "WRITE_SECONDS", 0.2, raising=False)
    async with service.client() as client:
        url = await draft.begin(client, b"abc")
        with locked(tmp_path / "data"):
            created = await draft.create(client, b"abc")
            completed = await draft.append(client, url, 3, b"def", complete=True)
        offset = await draft.offset_of(client, url)
        repeated = await draft.append(client, url, offset, b"abcdef"[offset:], complete=True)

    for refused in (created, completed):
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
    assert repeated.status_code == 201
    assert await bytes_of(service, url.rpartition("/")[2]) == b"abcdef"
