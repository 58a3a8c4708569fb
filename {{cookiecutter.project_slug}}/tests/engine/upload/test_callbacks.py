"""Callbacks: files are refused, quarantined, and reported to the owner's code."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.storage import Callbacks, Draft, FileRecord
from {{cookiecutter.package_name}}.engine.storage.part import open_storage
from {{cookiecutter.package_name}}.engine.upload.metadata import AllowedTypes

from .. import stores
from ..peer import PATIENCE
from ..service import Service, make_settings
from ..storage.stored import files, store
from .uploads import left_behind

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def register(service: Service, **callbacks: Any) -> None:
    service.app.state.storage.callbacks = [Callbacks(**callbacks)]


async def test_a_file_is_inspected_before_anybody_can_see_it(service: Service) -> None:
    seen = []

    async def inspect(record: FileRecord, chunks: AsyncIterator[bytes]) -> None:
        content = b"".join([chunk async for chunk in chunks])
        visible = [known.id async for _, known in service.app.state.storage.records()]
        seen.append((record.filename, content, visible))

    register(service, inspect=inspect)
    async with service.client() as client:
        response = await client.post("/files?filename=a", content=b"abc")

    assert response.status_code == 201
    assert seen == [("a", b"abc", [])]
    assert [record.id for record in await files(service)] == [response.json()["id"]]


async def test_what_an_inspection_refuses_goes_into_quarantine(
    service: Service, tmp_path: Path
) -> None:
    async def inspect(record: FileRecord, chunks: AsyncIterator[bytes]) -> None:
        raise Problem(422, "A virus.")

    register(service, inspect=inspect)
    async with service.client() as client:
        response = await client.post("/files", content=b"evil")

    assert (response.status_code, response.json()["detail"]) == (422, "A virus.")
    assert await files(service) == []
    assert left_behind(tmp_path) == []
    assert stores.quarantined(tmp_path / "data") == [b"evil"]


async def test_a_callback_that_fails_is_called_again(tmp_path: Path) -> None:
    told = []

    async def on_stored(record: FileRecord) -> None:
        told.append(record.id)
        if len(told) == 1:
            raise OSError("The database is away.")

    settings = make_settings(storage={"url": f"file:{tmp_path}"}).storage
    async with open_storage(settings, [Callbacks(on_stored=on_stored)]) as storage:
        async with storage.create(Draft(filename="a")) as writer:
            record = await storage.commit(writer)
        assert told == [record.id]

    async with open_storage(settings, [Callbacks(on_stored=on_stored)]) as storage:
        await storage.sweep()
        await storage.sweep()
    assert told == [record.id, record.id]


async def test_the_code_is_told_of_progress_of_files_and_of_their_end(service: Service) -> None:
    told: list[tuple[str, str, int]] = []
    deleted = asyncio.Event()

    async def on_progress(file_id: str, size: int) -> None:
        told.append(("progress", file_id, size))

    async def on_stored(record: FileRecord) -> None:
        told.append(("stored", record.id, record.size))

    async def on_deleted(record: FileRecord) -> None:
        told.append(("deleted", record.id, record.size))
        deleted.set()

    register(service, on_progress=on_progress, on_stored=on_stored, on_deleted=on_deleted)
    size = (2 << 20) + 1
    async with service.client() as client:
        file_id = (await client.post("/files", content=bytes(size))).json()["id"]
        await client.delete(f"/files/{file_id}")
    await service.in_server(asyncio.wait_for(deleted.wait(), PATIENCE))

    assert {name for _, name, _ in told} == {file_id}
    progress = [so_far for word, _, so_far in told if word == "progress"]
    assert progress == sorted(set(progress))
    assert len(progress) >= 2
    assert told[-3:] == [
        ("progress", file_id, size),
        ("stored", file_id, size),
        ("deleted", file_id, size),
    ]


@pytest.mark.parametrize("size", [0, 100, 4096, 3 << 20])
async def test_a_file_is_accepted_once_with_its_first_bytes(service: Service, size: int) -> None:
    seen: list[bytes] = []
    register(service, accept=lambda draft, head: seen.append(head))
    content = random.randbytes(size)
    async with service.client() as client:
        assert (await client.post("/files", content=content)).status_code == 201
    assert seen == [content[:4096]]


@pytest.mark.parametrize(
    ("content", "declared", "status"),
    [
        (PNG, "text/html", 415),
        (PNG, "application/octet-stream", 201),
        (b"GIF89a<script>", "text/html", 415),
        (b"<svg></svg>", "image/svg+xml", 201),
        (b"<html>", "image/svg+xml", 415),
        (b"#!/bin/sh", "image/x-json", 415),
        (PNG, "image/png", 201),
        (b"<html>", "image/png", 415),
        (b"a,b\n1,2\n", "text/csv", 201),
        (b"a,b\n1,2\n", "image/png", 415),
        ("ä".encode() * 3000, "text/csv", 201),
        (b"a\x00b", "text/csv", 415),
        (b"%PDF-1.7\n", "text/csv", 415),
        (b"", "image/png", 415),
    ],
)
async def test_the_bytes_say_whether_a_type_is_allowed(
    serve: Any, tmp_path: Path, content: bytes, declared: str, status: int
) -> None:
    service: Service = await serve(upload={"allowed_types": "image/*, text/csv"})
    async with service.client() as client:
        response = await client.post("/files", content=content, headers={"Content-Type": declared})

    assert response.status_code == status
    assert len(await files(service)) == (status == 201)
    assert left_behind(tmp_path) == []


async def test_a_large_file_of_a_wrong_type_is_refused_by_its_first_block(serve: Any) -> None:
    service: Service = await serve(upload={"allowed_types": "image/*"})
    async with service.raw_connection() as peer:
        await peer.send(b"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: 67108864\r\n\r\n")
        await peer.send(b"text" * (1 << 19))

        assert b" 415 " in await peer.read_head()


def test_without_patterns_every_type_is_allowed() -> None:
    AllowedTypes("")(Draft(filename="a"), b"\x00")


@pytest.mark.bound("H14")
async def test_a_quota_holds_for_files_with_and_without_a_length(serve: Any) -> None:
    service: Service = await serve(storage={"quota": 10})
    await store(service, b"12345")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"123456"

    async with service.client() as client:
        declared = await client.post("/files", content=b"123456")
        counted = await client.post("/files", content=chunks())
        fits = await client.post("/files", content=b"12345")

    assert [declared.status_code, counted.status_code, fits.status_code] == [413, 413, 201]
    assert len(await files(service)) == 2


@pytest.mark.bound("H29")
async def test_an_owner_has_a_limited_number_of_files(serve: Any) -> None:
    service: Service = await serve(storage={"max_files_per_owner": 2})
    form = [("files", (f"{i}.txt", b"x")) for i in range(3)]
    async with service.client() as client:
        whole = await client.post("/files", files=form)
        answers = [await client.post("/files", content=b"x") for _ in range(3)]
        first = (await files(service))[0]
        await client.delete(f"/files/{first.id}")
        again = await client.post("/files", content=b"x")

    assert whole.status_code == 413
    assert [answer.status_code for answer in answers] == [201, 201, 413]
    assert again.status_code == 201
    assert "at most 2 files" in answers[2].json()["detail"]
    assert await service.reached("storage.max_files_per_owner") == 2


@pytest.mark.local
async def test_an_upload_leaves_the_disk_what_it_must_keep(serve: Any) -> None:
    service: Service = await serve(storage={"keep_free": "1000 PiB"})
    async with service.client() as client:
        response = await client.post("/files", content=b"x")

    assert response.status_code == 507


async def test_a_scanner_that_finds_nothing_out_puts_nothing_into_quarantine(
    service: Service, tmp_path: Path
) -> None:
    async def inspect(record: FileRecord, chunks: AsyncIterator[bytes]) -> None:
        raise Problem(503, "The scanner is busy.")

    register(service, inspect=inspect)
    async with service.client() as client:
        assert (await client.post("/files", content=b"abc")).status_code == 503

    assert await files(service) == []
    assert stores.quarantined(tmp_path / "data") == []
