"""The directory of a store is replaced during an upload."""

from pathlib import Path
from typing import Any

import pytest

from ..service import Service
from . import draft
from .tus import Tus

pytestmark = pytest.mark.local


@pytest.mark.bound("8.4")
@pytest.mark.parametrize("replaced", ["data", "data/uploads"])
async def test_no_offset_is_acknowledged_that_a_restart_would_not_find(
    serve: Any, tmp_path: Path, replaced: str
) -> None:
    service: Service = await serve()
    async with Tus(service) as tus:
        url = await tus.upload(6, (), b"abc")
        folder = tmp_path / replaced
        kept = folder.rename(tmp_path / "kept")
        for name in ("files", "parts", "uploads") if replaced == "data" else (".",):
            (folder / name).mkdir(parents=True, exist_ok=True)

        assert (await tus.head(url)).status_code == 503
        assert (await tus.patch(url, 3, b"d")).status_code == 503
        assert (await tus.delete(url)).status_code == 503
        assert (await tus.create({"Upload-Length": "3"})).status_code == 503
        assert (await draft.create(tus.http, b"abc")).status_code == 503

        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        kept.rename(folder)
        assert await tus.offset(url) == 3
        assert (await tus.patch(url, 3, b"def")).status_code == 204
