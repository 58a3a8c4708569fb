"""The state of unfinished uploads: how much of a request is stored, and how it is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.storage import Draft
from {{cookiecutter.package_name}}.engine.storage.partials import PAGE, Partial

from .. import stores
from ..peer import PATIENCE
from ..service import Service
from .test_expiration import let_expire
from .tus import Tus, id_of, metadata, unfinished

#: More uploads than one page has.
MANY = 2 * PAGE + 1


@pytest.fixture
def rows_read(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each query."""
    counts: list[int] = []
    catalogue = service.app.state.storage.catalogue
    read = catalogue.read

    async def count(query: str, *values: object) -> Any:
        rows = await read(query, *values)
        counts.append(len(rows))
        return rows

    monkeypatch.setattr(catalogue, "read", count)
    return counts


async def begin_many(service: Service) -> list[str]:
    """Create unfinished uploads without requests, and return their ids."""
    partials = service.app.state.uploads.partials
    many = [Partial(draft=Draft(filename="f"), length=2) for _ in range(MANY)]

    async def save() -> None:
        for partial in many:
            await partials.save(partial)
            if not stores.SERVER:
                (partials.storage.root / "uploads" / f"{partial.id}.part").touch()

    await service.in_server(save())
    return [partial.id for partial in many]


@pytest.mark.fault("G34")
async def test_the_sweep_reads_uploads_in_pages(
    service: Service, tmp_path: Path, rows_read: list[int]
) -> None:
    uploads = await begin_many(service)
    async with Tus(service) as tus:
        kept = await tus.upload(2, body=b"x")
    for upload in uploads:
        let_expire(service, tmp_path, upload)

    await service.in_server(service.app.state.uploads.sweep())

    names = unfinished(tmp_path)
    assert {name.partition(".")[0] for name in names} - {"sweep"} == {id_of(kept)}
    assert max(rows_read) <= PAGE


@pytest.mark.fault("G34")
async def test_a_quota_sums_the_uploads_without_reading_them(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = await serve(storage={"quota": 2 * MANY + 2})
    await begin_many(service)
    # The sweep, which reads them a second after the start, is left to another process.
    sweeping = service.app.state.uploads.partials.claimed("sweep", PATIENCE)
    assert await service.in_server(sweeping.__aenter__())
    parsed: list[object] = []
    parse = Partial.model_validate_json

    def count(state: str) -> Partial:
        parsed.append(state)
        return parse(state)

    monkeypatch.setattr(Partial, "model_validate_json", count)
    async with Tus(service) as tus:
        answers = [await tus.create({"Upload-Length": length}) for length in ("2", "1", "0")]
    await service.in_server(sweeping.__aexit__(None, None, None))

    assert [answer.status_code for answer in answers] == [201, 413, 201]
    assert len(parsed) < PAGE


@pytest.mark.bound("7.7")
@pytest.mark.fault("G34")
async def test_the_stored_headers_of_an_upload_are_limited(service: Service) -> None:
    longest = metadata(filename="a.txt", note="x" * 6000)
    async with Tus(service) as tus:
        part = await tus.upload(1, {"Upload-Concat": "partial"}, body=b"x")
        padded = {"Upload-Concat": f"final;{' ' * 50_000}{part}"}  # The limit of the response.
        escaped = {"Upload-Metadata": metadata(note="\x01" * 6000), "Upload-Length": "1"}
        refused = [await tus.create(fields) for fields in (padded, escaped)]
        await tus.upload(1, {"Upload-Metadata": longest})

        assert [response.status_code for response in refused] == [431, 431]
        assert await service.reached("upload.max_state") == 1


@pytest.mark.fault("G34")
async def test_an_expired_upload_keeps_no_metadata(service: Service, tmp_path: Path) -> None:
    read = service.app.state.storage.catalogue.read
    async with Tus(service) as tus:
        url = await tus.upload(1, {"Upload-Metadata": metadata(filename="a", note="x" * 6000)})
        let_expire(service, tmp_path, url)
        await service.in_server(service.app.state.uploads.sweep())
        assert (await tus.head(url)).status_code == 410

    [[state]] = await service.in_server(read("SELECT state FROM uploads"))
    assert len(state) < 1000
    assert json.loads(state)["draft"]["filename"] == "a"
