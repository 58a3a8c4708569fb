"""tus 1.0.0: Checksum, Termination, Expiration."""

import base64
import hashlib
import random
import re
import time
import zlib
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.storage import Callbacks, FileRecord

from ..service import Service, ServiceProcess
from ..storage.stored import bytes_of, files
from ..upload.uploads import sha256
from .tus import CHUNK, Tus, begin_patch, id_of, in_pieces, let_pass, settle, unfinished, was_cut

ALGORITHMS = ("sha1", "sha256", "sha512", "md5", "crc32")


def checksum(algorithm: str, data: bytes) -> dict[str, str]:
    if algorithm == "crc32":
        value = zlib.crc32(data).to_bytes(4, "big")
    else:
        value = hashlib.new(algorithm, data, usedforsecurity=False).digest()
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(value).decode()}"}


@pytest.mark.spec("tus-X1", "tus-X6", "tus-X7", "tus-X8")
@pytest.mark.parametrize("path", ["/uploads", "/uploads/some-id"])
async def test_options_names_the_algorithms(service: Service, path: str) -> None:
    async with service.client() as client:
        response = await client.options(path)

    assert set(response.headers["tus-checksum-algorithm"].split(",")) == set(ALGORITHMS)
    assert "checksum" in response.headers["tus-extension"].split(",")


@pytest.mark.spec("tus-X2", "tus-X4", "tus-X5", "tus-X9")
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_chunk_counts_when_its_checksum_is_right(
    service: Service, algorithm: str, declared: bool
) -> None:
    """The chunk is larger than a block, so a part of it has been written."""

    def body(data: bytes) -> Any:
        return data if declared else in_pieces(data, 1 << 16)

    data = random.randbytes((2 << 20) + 8)
    start, chunk = data[:4], data[4:]
    async with Tus(service) as tus:
        url = await tus.upload(len(data), {}, start)
        damaged = body(chunk[:-1] + bytes([chunk[-1] ^ 1]))
        wrong = await tus.patch(url, 4, damaged, checksum(algorithm, chunk))
        assert wrong.status_code == 460
        assert await tus.offset(url) == 4
        assert await tus.record(url) is None

        right = await tus.patch(url, 4, body(chunk), checksum(algorithm, chunk))
        assert (right.status_code, right.headers["upload-offset"]) == (204, str(len(data)))
    assert sha256(await bytes_of(service, id_of(url))) == sha256(data)


@pytest.mark.spec("tus-X2", "tus-X5")
async def test_a_wrong_chunk_leaves_nothing_behind_a_shorter_one(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(6)
        assert (await tus.patch(url, 0, b"XXXXXX", checksum("sha1", b"x"))).status_code == 460
        assert (await tus.patch(url, 0, b"abc", checksum("sha1", b"abc"))).status_code == 204
        assert (await tus.patch(url, 3, b"XXX", checksum("sha1", b"x"))).status_code == 460
        assert await tus.offset(url) == 3
        assert (await tus.patch(url, 3, b"def")).status_code == 204
    assert await bytes_of(service, id_of(url)) == b"abcdef"


@pytest.mark.fault("G22")
async def test_base64_needs_no_padding(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(3, {"Upload-Metadata": "filename YQ"})
        unpadded = checksum("sha1", b"abc")["Upload-Checksum"].rstrip("=")
        assert (await tus.patch(url, 0, b"xyz", {"Upload-Checksum": unpadded})).status_code == 460
        assert (await tus.patch(url, 0, b"abc", {"Upload-Checksum": unpadded})).status_code == 204
        assert (await tus.record(url))["filename"] == "a"


@pytest.mark.spec("tus-X2")
async def test_the_checksum_of_no_bytes_is_verified_too(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(3)
        right = await tus.patch(url, 0, b"", checksum("sha1", b""))
        wrong = await tus.patch(url, 0, b"", checksum("sha1", b"abc"))

    assert [right.status_code, wrong.status_code] == [204, 460]


@pytest.mark.spec("tus-X3", "tus-X5", "tus-X7", "tus-X9")
async def test_a_checksum_that_cannot_be_verified_is_refused(service: Service) -> None:
    """Valid values are those of `abc`."""
    wrong = [
        *("sha3 YQ==", "SHA1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "adler32 YQ==", "shake_128 YQ=="),
        *("", "sha1", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "sha1,qZk+NkcGgWq6PiVxeFDCbJzQ2J0="),
        *("sha1 !!!!", "sha1 YQ==YQ==", "sha1 YQ== YQ==", "\xb2 \xb2"),
        *("sha1  qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "sha1 qZk-NkcGgWq6PiVxeFDCbJzQ2J0="),
    ]
    statuses = {}
    async with Tus(service) as tus:
        url = await tus.upload(6)
        for value in wrong:
            response = await tus.patch(url, 0, b"abc", {"Upload-Checksum": value})
            statuses[value] = response.status_code
        short = await tus.patch(url, 0, b"abc", {"Upload-Checksum": "sha1 qZk+"})

        assert await tus.offset(url) == 0
    assert statuses == dict.fromkeys(wrong, 400)
    assert short.status_code in (400, 460)


@pytest.mark.spec("tus-X5", "tus-D4")
async def test_a_wrong_chunk_does_not_even_set_the_length(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(None)
        fields = checksum("sha1", b"abc") | {"Upload-Length": "3"}
        assert (await tus.patch(url, 0, b"xyz", fields)).status_code == 460
        assert (await tus.head(url)).headers.get("upload-defer-length") == "1"
        assert (await tus.patch(url, 0, b"abc", fields)).status_code == 204
        assert (await tus.record(url))["size"] == 3


@pytest.mark.spec("tus-X4", "tus-X5")
async def test_a_wrong_checksum_at_the_creation_creates_nothing(
    service: Service, tmp_path: Path
) -> None:
    fields = {"Upload-Length": "3", "Content-Type": CHUNK}
    async with Tus(service) as tus:
        wrong = await tus.create(fields | checksum("sha1", b"xyz"), b"abc")
        assert (wrong.status_code, unfinished(tmp_path)) == (460, [])
        right = await tus.create(fields | checksum("sha1", b"abc"), b"abc")

    assert right.status_code == 201
    assert [record.size for record in await files(service)] == [3]


@pytest.mark.spec("tus-X2", "tus-X5")
async def test_a_chunk_that_breaks_off_is_unverified_and_does_not_count(service: Service) -> None:
    async with Tus(service) as tus, service.raw_connection() as peer:
        url = await tus.upload(6, {}, b"a")
        field = f"Upload-Checksum: {checksum('sha1', b'bcdef')['Upload-Checksum']}"
        await begin_patch(peer, url, 1, "Content-Length: 5", field)
        await peer.send(b"bcd")
        await settle(service)
        peer.reset()
        await service.ended("PATCH /uploads/{upload_id}")

        assert await tus.offset(url) == 1
        assert (await tus.patch(url, 1, b"bcdef")).status_code == 204
    assert await bytes_of(service, id_of(url)) == b"abcdef"


@pytest.mark.spec("tus-X2", "tus-X5")
@pytest.mark.slow
async def test_after_a_sudden_death_an_unverified_chunk_does_not_count(tmp_path: Path) -> None:
    data = random.randbytes(3 << 20)
    field = f"Upload-Checksum: {checksum('sha1', data[4:])['Upload-Checksum']}"
    async with ServiceProcess(tmp_path) as process, process.raw_connection() as peer:
        async with Tus(process) as tus:
            url = await tus.upload(len(data), {}, data[:4])
        await begin_patch(peer, url, 4, f"Content-Length: {len(data) - 4}", field)
        await peer.send(data[4:-1])
        await settle(process)
        process.kill()

    async with Service(storage={"url": f"file:{tmp_path / 'data'}"}) as service:
        async with Tus(service) as tus:
            url = f"/uploads/{id_of(url)}"
            assert await tus.offset(url) == 4
            assert (await tus.patch(url, 4, data[4:])).status_code == 204
        assert sha256(await bytes_of(service, id_of(url))) == sha256(data)


@pytest.mark.spec("tus-R2", "tus-R3", "tus-R4")
@pytest.mark.parametrize("sent", [b"", b"abc", b"abcdef"])
async def test_an_upload_that_is_terminated_is_gone_with_all_its_bytes(
    service: Service, tmp_path: Path, sent: bytes
) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(6, {}, sent)
        assert (await tus.delete(url)).status_code == 204

        gone = [await tus.head(url), await tus.patch(url, len(sent), b"x"), await tus.delete(url)]
        assert [response.status_code for response in gone] == [404, 404, 404]
        assert "upload-offset" not in gone[0].headers
        assert await tus.record(url) is None
    assert unfinished(tmp_path) == []
    assert await files(service) == []


@pytest.mark.spec("tus-R2", "tus-R3")
async def test_a_termination_ends_the_chunk_that_is_under_way(serve: Any, tmp_path: Path) -> None:
    service: Service = await serve(streaming={"idle_timeout": 60})
    async with Tus(service) as tus, service.raw_connection() as peer:
        url = await tus.upload(6)
        await begin_patch(peer, url, 0, "Content-Length: 6")
        await peer.send(b"abc")
        await settle(service)

        assert (await tus.delete(url)).status_code == 204
        assert await was_cut(peer)
        assert (await tus.head(url)).status_code == 404
    assert unfinished(tmp_path) == []


@pytest.mark.spec("tus-E2", "tus-E3", "tus-E4")
async def test_every_answer_to_a_creation_or_a_chunk_tells_when_it_expires(serve: Any) -> None:
    service: Service = await serve(upload={"expire_after": "2 h"})
    async with Tus(service) as tus:
        before = int(time.time())
        created = await tus.create({"Upload-Length": "9"})
        url = created.headers["location"]
        patched = await tus.patch(url, 0, b"abc")
        elsewhere = await tus.patch(url, 0, b"abc")
        damaged = await tus.patch(url, 3, b"def", checksum("sha1", b"abc"))
        too_long = await tus.patch(url, 3, b"defghij")

    answers = [created, patched, elsewhere, damaged, too_long]
    assert [response.status_code for response in answers] == [201, 204, 409, 460, 413]
    for response in answers:
        date = response.headers["upload-expires"]
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
        assert before + 7200 <= parsedate_to_datetime(date).timestamp() <= time.time() + 7201


@pytest.mark.fault("F12")
@pytest.mark.trap("U16")
@pytest.mark.spec("tus-E5", "tus-E6", "tus-C16")
async def test_what_has_expired_is_gone(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = service.app.state.uploads
    async with Tus(service) as tus:
        url = await tus.upload(9, {}, b"abc")
        finished = await tus.upload(3, {}, b"abc")
        let_pass(monkeypatch, days=1.5)
        for _ in range(2):  # Before the sweep and after it.
            gone = [await tus.head(url), await tus.patch(url, 3, b"def"), await tus.head(finished)]
            assert [response.status_code for response in gone] == [410, 410, 410]
            await service.in_server(sessions.sweep())
        assert unfinished(tmp_path) == []
        assert (await tus.record(finished))["size"] == 3  # The file stays; it is not an upload.

        let_pass(monkeypatch, days=1.5)
        await service.in_server(sessions.sweep())  # 410 for another period, then 404.
        assert [(await tus.head(each)).status_code for each in (url, finished)] == [404, 404]


@pytest.mark.trap("U16")
@pytest.mark.spec("tus-E5")
async def test_an_upload_under_way_does_not_expire(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = await serve(streaming={"idle_timeout": 60})
    async with Tus(service) as tus, service.raw_connection() as peer:
        url, idle = await tus.upload(6), await tus.upload(6)
        await begin_patch(peer, url, 0, "Content-Length: 6")
        await peer.send(b"abc")
        await settle(service)
        let_pass(monkeypatch, days=1.5)
        await service.in_server(service.app.state.uploads.sweep())
        assert id_of(idle) not in {name.partition(".")[0] for name in unfinished(tmp_path)}
        assert (await tus.head(idle)).status_code == 410

        await peer.send(b"def")
        assert b" 204 " in await peer.read_head()
    assert await bytes_of(service, id_of(url)) == b"abcdef"
    assert len(await files(service)) == 1


async def test_an_upload_that_the_scanner_had_no_time_for_is_tried_again(service: Service) -> None:
    async def busy(record: FileRecord, chunks: Any) -> None:
        raise Problem(503, "The scanner is busy.")

    service.app.state.storage.callbacks = [Callbacks(inspect=busy)]
    async with Tus(service) as tus:
        url = await tus.upload(3)
        assert (await tus.patch(url, 0, b"abc")).status_code == 503

        service.app.state.storage.callbacks = [Callbacks()]
        assert await tus.offset(url) == 3
    assert await bytes_of(service, id_of(url)) == b"abc"
