"""Sessions: requests that take turns on an upload, failures, and no lock that stays held."""

import asyncio
import errno
import gc
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.storage import Callbacks, FileRecord, writer

from .. import stores
from ..peer import PATIENCE
from ..service import Service, ServiceProcess
from ..storage.stored import buffered, bytes_of, files
from ..upload.uploads import sha256
from .tus import Tus, begin_patch, id_of, let_pass, metadata, settle, unfinished, was_cut


async def away(record: FileRecord, chunks: Any) -> None:
    raise OSError("The scanner is away.")


def assert_nothing_is_held(service: Service) -> None:
    assert buffered(service) == 0
    assert service.app.state.uploads._locks == {}


async def test_a_stalled_chunk_of_a_complete_upload_is_cut_as_well(serve: Any) -> None:
    service: Service = await serve(streaming={"idle_timeout": 60})
    async with Tus(service) as tus, service.raw_connection() as peer:
        url = await tus.upload(3, body=b"abc")
        await begin_patch(peer, url, 3, "Transfer-Encoding: chunked")

        assert await tus.offset(url) == 3
        assert await was_cut(peer)


async def test_a_question_during_a_deletion_brings_no_file_back(service: Service) -> None:
    storage = service.app.state.storage
    async with Tus(service) as tus:
        url = await tus.upload(3, body=b"abc")
        reached, go_on = asyncio.Event(), asyncio.Event()
        remove = storage.catalogue.remove

        async def slowly(file_id: str) -> Any:
            removed = await remove(file_id)
            reached.set()
            await go_on.wait()
            return removed

        storage.catalogue.remove = slowly
        deletion = asyncio.create_task(tus.http.delete(f"/files/{id_of(url)}"))
        await service.in_server(reached.wait())
        assert (await tus.head(url)).status_code == 404
        await service.call(go_on.set)
        assert (await deletion).status_code == 204
        assert await tus.record(url) is None
    assert await files(service) == []


async def test_a_scanner_that_is_away_stops_neither_the_sweep_nor_a_part(service: Service) -> None:
    service.app.state.storage.callbacks = [Callbacks(inspect=away)]
    async with Tus(service) as tus:
        url = await tus.upload(3)
        part = await tus.upload(3, {"Upload-Concat": "partial"})
        whole = (await tus.create({"Upload-Concat": f"final;{part}"})).headers["location"]
        assert (await tus.patch(url, 0, b"abc")).status_code == 500
        assert (await tus.patch(part, 0, b"def")).status_code == 204
        await service.in_server(service.app.state.uploads.sweep())
        assert await files(service) == []

        service.app.state.storage.callbacks = [Callbacks()]
        async with asyncio.timeout(PATIENCE):
            while len(await files(service)) < 2:  # In S3, not every sweep looks at each upload.
                await service.in_server(service.app.state.uploads.sweep())
    assert await bytes_of(service, id_of(url)) == b"abc"
    assert await bytes_of(service, id_of(whole)) == b"def"


@contextmanager
def full_catalogue(service: Service) -> Iterator[None]:
    catalogue = service.app.state.storage.catalogue
    execute = catalogue.execute

    def full(statement: str, *values: object) -> Any:
        if statement.startswith("SELECT"):
            return execute(statement, *values)
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    catalogue.execute = full
    yield
    catalogue.execute = execute


@pytest.mark.local
async def test_a_full_catalogue_is_told_as_a_full_disk(service: Service) -> None:
    wrong = {"Upload-Checksum": "crc32 AAAAAA=="}
    async with Tus(service) as tus:
        url = await tus.upload(6, body=b"abc")
        with full_catalogue(service):
            answers = [
                await tus.create({"Upload-Length": "1"}),
                await tus.patch(url, 3, b"d"),
                await tus.patch(url, 4, b"e", wrong),
                await tus.patch(url, 4, b"ef"),
                await tus.head(url),
                await tus.delete(url),
            ]
            await service.in_server(service.app.state.uploads.sweep())
        assert [answer.status_code for answer in answers] == [507, 204, 507, 507, 507, 507]
        await service.in_server(service.app.state.uploads.sweep())
    assert await bytes_of(service, id_of(url)) == b"abcdef"
    assert_nothing_is_held(service)


@pytest.mark.local
async def test_a_disk_that_fills_up_keeps_what_went_in(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.randbytes(3 << 20)
    write_at = writer.write_at
    calls = iter(range(100))

    def fill(descriptor: int, chunks: list[Any], offset: int) -> int:
        if next(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_at(descriptor, [bytes(chunks[0])[:1000]], offset)

    async with Tus(service) as tus:
        url = await tus.upload(len(data))
        with monkeypatch.context() as patch:
            patch.setattr(writer, "write_at", fill)
            assert (await tus.patch(url, 0, data)).status_code == 507
        assert_nothing_is_held(service)
        offset = await tus.offset(url)
        assert offset == 2000
        assert (await tus.patch(url, offset, data[offset:])).status_code == 204
    assert sha256(await bytes_of(service, id_of(url))) == sha256(data)


@pytest.mark.local
async def test_a_file_whose_record_was_lost_is_recovered_before_it_expires(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the rename and the record, and a restart after the expiry."""
    first: Service = await serve()
    async with Tus(first) as tus:
        file_id = id_of(await tus.upload(3))
    final = tmp_path / "data" / "files" / file_id[-2:] / file_id
    part = tmp_path / "data" / "uploads" / f"{file_id}.part"
    part.write_bytes(b"abc")
    final.parent.mkdir()
    part.rename(final)
    let_pass(monkeypatch, days=2)

    second: Service = await serve()
    assert [record.id for record in await files(second)] == [file_id]
    assert await bytes_of(second, file_id) == b"abc"


async def test_of_two_last_parts_at_once_one_completes_the_whole(service: Service) -> None:
    """The one that read the other's state too early, or the one after it."""
    sessions = service.app.state.uploads
    load = sessions.partials.load
    reached, go_on = asyncio.Event(), asyncio.Event()
    async with Tus(service) as tus:
        first, second = [await tus.upload(3, {"Upload-Concat": "partial"}) for _ in range(2)]
        created = await tus.create({"Upload-Concat": f"final;{second} {first}"})
        whole = created.headers["location"]

        async def late(upload_id: str) -> Any:
            known = await load(upload_id)
            if (
                upload_id == id_of(second)
                and id_of(whole) in sessions._locks
                and not reached.is_set()
            ):
                reached.set()
                await go_on.wait()
                return known[0].model_copy(update={"length": None}), None
            return known

        sessions.partials.load = late
        early = asyncio.create_task(tus.patch(first, 0, b"def"))
        await service.in_server(reached.wait())
        behind = asyncio.create_task(tus.patch(second, 0, b"abc"))
        while service.app.state.kernel.streams["upload"] < 2:
            await settle(service)
        await service.call(go_on.set)
        assert [(await early).status_code, (await behind).status_code] == [204, 204]

        assert await tus.record(whole) is not None
    assert await bytes_of(service, id_of(whole)) == b"abcdef"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.slow
async def test_a_drain_writes_what_uploads_have_brought(tmp_path: Path) -> None:
    data = random.randbytes(900_000)
    limits = {"SERVER__DRAIN_TIMEOUT": "1 s"}
    async with ServiceProcess(tmp_path, **limits) as process, AsyncExitStack() as stack:
        tus = await stack.enter_async_context(Tus(process))
        peers = []
        for _ in range(8):
            url = await tus.upload(2 * len(data))
            peers.append(await stack.enter_async_context(process.raw_connection()))
            await begin_patch(peers[-1], url, 0, f"Content-Length: {2 * len(data)}")
            await peers[-1].send(data)
        await settle(process)
        process.terminate()
        assert [(await peer.read_head())[9:12] for peer in peers] == [b"503"] * 8
        assert await process.exit_code() == 0

    left = [name.partition(".")[0] for name in unfinished(tmp_path)]
    assert len(left) == 8
    assert {stores.received(tmp_path / "data", each) for each in left} == {len(data)}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_clients_that_vanish_leave_nothing_open(serve: Any, tmp_path: Path) -> None:
    service: Service = await serve(streaming={"idle_timeout": 60})

    def opened() -> Counter[Path]:
        gc.collect()
        files = [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]
        return Counter(file for file in files if tmp_path in file.parents)

    async with Tus(service) as tus:
        url = await tus.upload(1_000_000)
        before = opened()
        for number in range(12):
            async with service.raw_connection() as peer:
                offset = await tus.offset(url)
                await begin_patch(peer, url, offset, "Content-Length: 5000")
                await peer.send(b"x" * 100)
                (peer.reset if number % 2 else peer.close)()
            await service.ended("PATCH /uploads/{upload_id}")
        await tus.offset(url)
        async with asyncio.timeout(PATIENCE):
            while opened() - before:  # A sweep may hold its lock at the moment.
                await asyncio.sleep(0.01)
        assert_nothing_is_held(service)
        await tus.delete(url)
    assert unfinished(tmp_path) == []


async def test_a_deletion_while_an_upload_completes_takes_no_bytes(service: Service) -> None:
    storage = service.app.state.storage
    reached, go_on = asyncio.Event(), asyncio.Event()
    adopt = storage.adopt

    async def slowly(record: FileRecord) -> None:
        reached.set()
        await go_on.wait()
        await adopt(record)

    storage.adopt = slowly
    async with Tus(service) as tus:
        url = await tus.upload(3)
        last = asyncio.create_task(tus.patch(url, 0, b"abc"))
        await service.in_server(reached.wait())
        assert (await tus.http.delete(f"/files/{id_of(url)}")).status_code == 404
        await service.call(go_on.set)
        assert (await last).status_code == 204
    assert await bytes_of(service, id_of(url)) == b"abc"


async def test_an_upload_in_pieces_is_accepted_once(service: Service) -> None:
    seen: list[bytes] = []
    accept = Callbacks(accept=lambda draft, head: seen.append(head))
    service.app.state.storage.callbacks = [accept]
    data = random.randbytes(10_000)
    async with Tus(service) as tus:
        url = await tus.upload(len(data), body=data[:100])
        await tus.patch(url, 100, data[100:5000])
        assert seen == [data[:4096]]
        await tus.patch(url, 5000, data[5000:])
        assert seen == [data[:4096]]

        pieces = (data[:3000], data[3000:])
        parts = [await tus.upload(len(p), {"Upload-Concat": "partial"}, p) for p in pieces]
        whole = await tus.create({"Upload-Concat": f"final;{' '.join(parts)}"})
    assert whole.status_code == 201
    assert seen == [data[:4096]] * 2


async def test_the_type_of_a_part_is_that_of_the_whole(serve: Any) -> None:
    service: Service = await serve(upload={"allowed_types": "image/*"})
    image = b"\x89PNG\r\n\x1a\n" + random.randbytes(20_000)
    async with Tus(service) as tus:
        halves = (image[:10_000], image[10_000:])
        parts = [await tus.upload(len(h), {"Upload-Concat": "partial"}, h) for h in halves]
        whole = await tus.create({"Upload-Concat": f"final;{' '.join(parts)}"})
        refused = await tus.create({"Upload-Concat": f"final;{parts[1]}"})

    assert (whole.status_code, refused.status_code) == (201, 415)
    assert sha256(await bytes_of(service, id_of(whole.headers["location"]))) == sha256(image)


async def test_a_length_that_its_own_chunk_exceeds_is_not_taken(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(None)
        assert (await tus.patch(url, 0, b"abcde", {"Upload-Length": "3"})).status_code == 413
        assert (await tus.patch(url, 0, b"abcde", {"Upload-Length": "5"})).status_code == 204
    assert await bytes_of(service, id_of(url)) == b"abcde"


async def test_a_type_with_line_breaks_is_no_type(service: Service) -> None:
    evil = metadata(filename="a.txt", filetype="text/html\r\n\r\n;<script>")
    async with Tus(service) as tus:
        url = await tus.upload(3, {"Upload-Metadata": evil}, b"abc")
        record = await tus.record(url)

    assert record["content_type"] == "text/plain"


@pytest.mark.fault("G39")
async def test_an_upload_that_became_a_file_is_acknowledged_whatever_happens_after(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    partials = service.app.state.uploads.partials
    real = partials.save

    async def save(partial: Any) -> None:
        if partial.completed_at is not None:
            raise OSError(errno.EIO, "Input/output error")
        await real(partial)

    async with Tus(service) as tus:
        url = await tus.upload(3)
        with monkeypatch.context() as patch:
            patch.setattr(partials, "save", save)
            assert (await tus.patch(url, 0, b"abc")).status_code == 204
            assert await tus.offset(url) == 3
        await service.in_server(service.app.state.uploads.sweep())
        assert await tus.offset(url) == 3
    assert [record.id for record in await files(service)] == [id_of(url)]
