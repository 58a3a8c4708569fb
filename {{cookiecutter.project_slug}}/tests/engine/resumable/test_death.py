"""Crashes during uploads: `kill -9` at random moments, then a restart of the service.

Acknowledged bytes are kept, later requests continue from them, and a complete upload becomes a file
without a request. The seed of a cycle is its number: `-k "[7]"` repeats the seventh.
"""

import asyncio
import base64
import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .. import stores
from ..peer import Peer
from ..service import SOAK, Service, ServiceProcess
from ..storage.stored import bytes_of, files
from ..upload.uploads import sha256
from .tus import Tus, id_of, patch_head, unfinished

PIECE = 65_536
#: Bytes of one upload: some fit into the buffer of the service, some take several blocks.
MAX_SIZE = 3 << 19


def checksum(data: bytes) -> str:
    return f"Upload-Checksum: sha256 {base64.b64encode(hashlib.sha256(data).digest()).decode()}"


@dataclass
class Upload:
    """The client's state of an upload: the bytes sent, and those acknowledged."""

    data: bytes
    chunks: list[int]
    #: Whether every chunk has a checksum; then the offset advances by whole chunks.
    checked: bool
    path: str = ""
    acknowledged: int = 0
    begun: int = 0

    @property
    def id(self) -> str:
        return id_of(self.path)

    def spans(self) -> Iterator[tuple[int, int]]:
        return zip([0, *self.chunks], [*self.chunks, len(self.data)], strict=True)

    def may_have(self, offset: int) -> bool:
        """Whether the service may report this offset after the restart."""
        if self.checked:
            return offset in (self.acknowledged, self.begun)
        return self.acknowledged <= offset <= self.begun


def uploads_of(cycle: int, count: int = 6) -> list[Upload]:
    choice = random.Random(cycle)
    uploads = []
    for number in range(count):
        data = choice.randbytes(choice.choice([choice.randint(1, 9000), MAX_SIZE]))
        ends = choice.sample(range(len(data)), min(len(data), choice.randrange(6)))
        chunks = sorted({*ends, max(len(data) - choice.randint(1, 1000), 0)})
        uploads.append(Upload(data, chunks, checked=bool(number % 2)))
    return uploads


async def create(tus: Tus, uploads: list[Upload], fields: dict[str, str]) -> None:
    for upload in uploads:
        upload.path = "/uploads/" + id_of(await tus.upload(len(upload.data), fields))


async def send(peer: Peer, upload: Upload, start: int, stop: int, sent: Callable[[], None]) -> None:
    chunk = upload.data[start:stop]
    fields = [f"Content-Length: {len(chunk)}", *([checksum(chunk)] if upload.checked else [])]
    upload.begun = stop
    await peer.send(patch_head(upload.path, start, *fields))
    for place in range(0, len(chunk), PIECE):
        await peer.send(chunk[place : place + PIECE])
        sent()
    answer = await peer.read_head()
    assert answer.startswith(b"HTTP/1.1 204 "), answer
    assert f"upload-offset: {stop}\r\n".encode() in answer
    upload.acknowledged = stop


async def send_until_death(process: ServiceProcess, uploads: list[Upload], cycle: int) -> None:
    """Send all uploads at once; each waits before its last chunk, so that they end together.

    Half of the cycles kill at one of the pieces; the other half when the first responses arrive,
    so that other uploads are about to end.
    """
    choice = random.Random(-cycle)
    within = choice.random() < 0.5
    pieces = sum(len(u.data) // PIECE + len(u.chunks) + 1 for u in uploads)
    fuse = choice.randrange(1, pieces if within else len(uploads))
    barrier = asyncio.Barrier(len(uploads))

    def burn() -> None:
        nonlocal fuse
        fuse -= 1
        if fuse == 0:
            process.kill()

    async def run(upload: Upload) -> None:
        *first, last = upload.spans()
        sent = burn if within else lambda: None
        async with process.raw_connection() as peer:
            try:
                for start, stop in first:
                    await send(peer, upload, start, stop, sent)
                await barrier.wait()
                await send(peer, upload, *last, sent)
                if not within:
                    burn()
            except (EOFError, ConnectionError):
                await barrier.abort()

    ended = await asyncio.gather(*map(run, uploads), return_exceptions=True)
    assert {type(end) for end in ended} <= {type(None), asyncio.BrokenBarrierError}
    process.kill()
    await process.exit_code()


def is_whole(root: Path, upload: Upload) -> bool:
    """Whether all bytes are there, and none waits for its checksum."""
    sure = not upload.checked or upload.acknowledged == len(upload.data)
    return sure and stores.received(root, upload.id) == len(upload.data)


async def resume(tus: Tus, upload: Upload) -> None:
    offset = await tus.offset(upload.path)
    assert upload.may_have(offset), f"{offset} of {upload.acknowledged} to {upload.begun}"
    answer = await tus.patch(upload.path, offset, upload.data[offset:])
    assert answer.status_code == 204, answer.text
    assert await tus.offset(upload.path) == len(upload.data)


@pytest.mark.trap("U2", "U5")
@pytest.mark.spec("tus-C24", "tus-C27", "tus-X5", "draft-U1")
@pytest.mark.parametrize("cycle", range(10 * SOAK))
@pytest.mark.slow
async def test_no_upload_loses_a_byte_by_sudden_death(tmp_path: Path, cycle: int) -> None:
    uploads = uploads_of(cycle)
    async with ServiceProcess(tmp_path) as process:
        async with Tus(process) as tus:
            await create(tus, uploads, {})
        await send_until_death(process, uploads, cycle)
    whole = {upload.id for upload in uploads if is_whole(tmp_path / "data", upload)}

    async with Service(storage={"url": f"file:{tmp_path / 'data'}"}) as service:
        recovered = [record.id for record in await files(service)]
        assert len(recovered) == len(set(recovered))
        assert whole <= set(recovered)  # Without a request.
        async with Tus(service) as tus:
            for upload in uploads:
                await resume(tus, upload)
        assert sorted(record.id for record in await files(service)) == sorted(
            upload.id for upload in uploads
        )
        for upload in uploads:
            assert sha256(await bytes_of(service, upload.id)) == sha256(upload.data)
    assert not [name for name in unfinished(tmp_path) if not name.endswith(".lock")]


@pytest.mark.trap("U2")
@pytest.mark.spec("tus-N4", "tus-N5", "tus-N7")
@pytest.mark.parametrize("cycle", range(2 * SOAK))
@pytest.mark.slow
async def test_a_final_upload_survives_the_sudden_death_of_its_parts(
    tmp_path: Path, cycle: int
) -> None:
    parts = uploads_of(cycle, 3)
    async with ServiceProcess(tmp_path) as process:
        async with Tus(process) as tus:
            await create(tus, parts, {"Upload-Concat": "partial"})
            concat = "final;" + " ".join(part.path for part in parts)
            final = (await tus.create({"Upload-Concat": concat})).headers["location"]
        await send_until_death(process, parts, cycle)
    whole = all(is_whole(tmp_path / "data", part) for part in parts)

    async with Service(storage={"url": f"file:{tmp_path / 'data'}"}) as service:
        if whole:
            assert [record.id for record in await files(service)] == [id_of(final)]
        async with Tus(service) as tus:
            for part in parts:
                await resume(tus, part)
        assert [record.id for record in await files(service)] == [id_of(final)]
        data = b"".join(part.data for part in parts)
        assert sha256(await bytes_of(service, id_of(final))) == sha256(data)
