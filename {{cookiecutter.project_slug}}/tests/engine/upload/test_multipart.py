"""Forms: all files of a form are stored with its fields, or none."""

import asyncio
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.storage.base import BaseStorage

from ..service import SOAK, Service, ServiceProcess
from ..storage.stored import buffered, bytes_of, files
from .forms import BOUNDARY, FORM, field, file, form, form_head
from .uploads import digest, left_behind, sha256

TYPE = {"Content-Type": FORM}


async def post(service: Service, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with service.client() as client:
        return await client.post("/files", content=body, headers=TYPE | named)


async def test_every_file_of_a_form_is_stored_with_all_of_its_fields(service: Service) -> None:
    first, second = random.randbytes(3 << 20), random.randbytes(1000)
    body = form(
        field("title", "Märchen"),
        file("a.bin", first, "Content-Type: application/x-test"),
        file("b.txt", second),
        field("after", "the files"),
    )
    response = await post(service, body)

    assert response.status_code == 201
    records = response.json()
    assert [record["filename"] for record in records] == ["a.bin", "b.txt"]
    assert [record["size"] for record in records] == [len(first), len(second)]
    types = ["application/x-test", "text/plain"]
    assert [record["content_type"] for record in records] == types
    for record in records:
        assert record["metadata"] == {"title": "Märchen", "after": "the files"}
        assert record["url"].startswith(service.url)
    stored = [await bytes_of(service, record["id"]) for record in records]
    assert list(map(sha256, stored)) == list(map(sha256, [first, second]))
    assert [record.id for record in await files(service)] == [record["id"] for record in records]
    assert await service.outcome_of("POST /files") == "complete"


@pytest.mark.trap("U10")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.slow
async def test_the_memory_is_flat_whatever_the_size_of_a_file_in_a_form(tmp_path: Path) -> None:
    blocks = min(SOAK, 16) * 64
    block = random.randbytes(1 << 20)
    before, _, after = form(file("a", b"|")).partition(b"|")
    async with ServiceProcess(tmp_path) as process, process.raw_connection() as peer:
        small = before + block + after
        await peer.send(form_head(len(small)) + small)
        assert b" 201 " in await peer.read_head()
        idle = process.peak_memory()

        await peer.send(form_head(len(before) + (blocks << 20) + len(after)) + before)
        for _ in range(blocks):
            await peer.send(block)
        await peer.send(after)
        assert b" 201 " in await peer.read_head()

        assert process.peak_memory() - idle < 16 << 20


async def test_files_that_wait_for_the_end_of_their_form_take_no_memory(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    writer_type = service.app.state.storage.writer_type
    close = writer_type.close

    async def close_and_tell(self: Any, **how: Any) -> None:
        held.append(buffered(service))
        await close(self, **how)

    monkeypatch.setattr(writer_type, "close", close_and_tell)
    small = [file(f"{number}", b"x" * 10_000) for number in range(10)]
    response = await post(service, form(*small, file("last", b"yz"))[:-4])

    assert response.status_code == 400
    assert (len(held), held[0]) == (11, 2)  # Only the last one has bytes in memory.


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        form(file("a", b"x"))[:-4],
        form(file("a", b"x"), field("k", "|")).replace(b"|", b"\xff"),
    ],
)
async def test_a_malformed_form_stores_nothing(
    service: Service, tmp_path: Path, broken: bytes
) -> None:
    response = await post(service, broken)

    assert response.status_code == 400
    assert "form is malformed" in response.json()["detail"]
    assert await files(service) == []
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(file("a", b"x" * 1000), file("b", b"x" * 1025)), 413),
        (form(file("a", b"x"), *[field(f"{n}", "") for n in range(101)]), 413),
        (form(file("a", b"x"), field("f", "x" * 40_000), field("g", "x" * 40_000)), 413),
        (form(file("a", b"x"), *[field("n" * 1_000, "") for _ in range(66)]), 413),
        (form(file("a", b"x"), *[file("", b"")] * 200), 413),
        (form(file("a", b"x"), file("b", b"eA==", "Content-Transfer-Encoding: base64")), 415),
        (form(file("a", b"x"), field("f", "", "Content-Type: multipart/mixed; boundary=c")), 415),
        (form(field("only", "a field")), 422),
        (form(), 422),
    ],
)
async def test_a_form_with_too_much_or_too_little_stores_nothing(
    serve: Any, tmp_path: Path, body: bytes, status: int
) -> None:
    service: Service = await serve(upload={"max_size": 1024})
    response = await post(service, body)

    assert response.status_code == status
    assert await files(service) == []
    assert left_behind(tmp_path) == []


async def test_a_form_at_its_limits_is_stored(serve: Any) -> None:
    # Each file needs several syncs of the disk.
    service: Service = await serve(upload={"max_size": 1024, "max_files": 5})
    many = [file(f"{number}", b"x" * 1024) for number in range(6)]
    fields = [field(f"{number:02}", "x" * 653) for number in range(100)]
    response = await post(service, form(*fields, *many[:5]))
    refused = await post(service, form(*fields, *many))

    assert response.status_code == 201
    assert [len(record["metadata"]) for record in response.json()] == [100] * 5
    assert refused.status_code == 413


async def test_a_form_declared_larger_than_all_its_files_may_be_is_refused_at_once(
    serve: Any,
) -> None:
    service: Service = await serve(upload={"max_size": 1024})
    async with service.raw_connection() as peer:
        await peer.send(form_head(64 << 20, "Expect: 100-continue"))

        assert (await peer.read_head()).startswith(b"HTTP/1.1 413 ")
    assert (await service.ended("POST /files")).bytes_in == 0


async def test_a_client_that_leaves_mid_form_leaves_no_file(
    service: Service, tmp_path: Path
) -> None:
    whole = form(file("a", b"x" * 1000), file("b", b"y" * 1000))
    async with service.raw_connection() as peer:
        await peer.send(form_head(len(whole)) + whole[:-500])
        peer.reset()

    assert await service.outcome_of("POST /files") == "client_abort"
    assert await files(service) == []
    assert left_behind(tmp_path) == []


async def test_a_file_that_cannot_be_stored_takes_back_the_ones_before_it(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    adopt = BaseStorage.adopt

    async def full_for_the_third(self: BaseStorage, record: Any) -> None:
        seen.append(len([each async for each in self.records()]))
        if len(seen) == 3:
            raise Problem(507)
        await adopt(self, record)

    monkeypatch.setattr(BaseStorage, "adopt", full_for_the_third)
    response = await post(service, form(*[file(name, b"x") for name in "abcd"]))

    assert response.status_code == 507
    assert seen == [0, 1, 2]
    assert await files(service) == []
    assert left_behind(tmp_path) == []


async def test_digests_are_of_the_whole_form_when_sent_and_of_each_file_when_wanted(
    service: Service, tmp_path: Path
) -> None:
    body = form(file("a", b"x"), file("b", b"yy"))
    right, wrong = digest("sha-256", body), digest("sha-256", b"x")
    response = await post(service, body, Content_Digest=right, Want_Repr_Digest="sha-512=1")
    refused = await post(service, body, Content_Digest=wrong)

    wanted = [digest("sha-512", data)[9:-1] for data in (b"x", b"yy")]
    assert [record["digest"] for record in response.json()] == [{"sha-512": d} for d in wanted]
    assert refused.status_code == 400
    assert len(await files(service)) == 2
    assert left_behind(tmp_path) == []


async def test_httpx_and_its_chunked_body_are_understood(service: Service) -> None:
    data = random.randbytes(1 << 20)
    sent: Any = [("f", ('q"uo\\te.bin', data)), ("g", ("b.txt", b"text"))]
    async with service.client() as client:
        request = client.build_request("POST", "/files", files=sent, data={"k": ["1", "2"]})
        body = await request.aread()
        plain = await client.send(request)
        kind = request.headers["content-type"]

        async def chunks() -> Any:
            for start in range(0, len(body), 1000):
                yield body[start : start + 1000]

        chunked = await client.post("/files", content=chunks(), headers={"Content-Type": kind})

    for response in (plain, chunked):
        assert [record["filename"] for record in response.json()] == ["te.bin", "b.txt"]
        assert response.json()[0]["metadata"] == {"k": "1\n2"}
        assert sha256(await bytes_of(service, response.json()[0]["id"])) == sha256(data)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_is_understood(service: Service, tmp_path: Path) -> None:
    data = random.randbytes(2 << 20)
    path = tmp_path / "a ü.bin"
    path.write_bytes(data)
    command = ["curl", "-sS", "-F", "k=v", "-F", f"f=@{path}", "-F", f"g=@{path};filename=b.txt"]
    ran = await anyio.to_thread.run_sync(
        lambda: subprocess.run([*command, f"{service.url}/files"], capture_output=True, check=True)
    )

    records = await files(service)
    assert [record.filename for record in records] == ["a ü.bin", "b.txt"]
    assert [record.metadata for record in records] == [{"k": "v"}] * 2
    assert all(record.id.encode() in ran.stdout for record in records)
    assert sha256(await bytes_of(service, records[0].id)) == sha256(data)


async def test_a_form_in_single_bytes_is_understood(service: Service) -> None:
    body = form(field("k", "v"), file("a", b"\r\n--" + BOUNDARY[:-1]), file("b", b"\r\n"))
    async with service.raw_connection() as peer:
        await peer.send(form_head(len(body)))
        for position in range(len(body)):
            await peer.send(body[position : position + 1])
            await asyncio.sleep(0)
        assert b" 201 " in await peer.read_head()

    stored = [await bytes_of(service, record.id) for record in await files(service)]
    assert stored == [b"\r\n--" + BOUNDARY[:-1], b"\r\n"]


async def test_a_file_without_a_name_is_stored_and_an_input_left_empty_is_none(
    service: Service,
) -> None:
    body = form(file("", b""), file("", b"x"), file("../../empty.txt", b""))
    response = await post(service, body)

    sizes = [(record["filename"], record["size"]) for record in response.json()]
    assert sizes == [("file", 1), ("empty.txt", 0)]


async def test_a_form_needs_room_for_all_of_its_files(serve: Any, tmp_path: Path) -> None:
    service: Service = await serve(storage={"quota": 400_000})
    one, other = file("a", b"x" * 200_000), file("b", b"y" * 200_001)
    refused = await post(service, form(field("k", "v"), one, other))

    assert refused.status_code == 413
    assert await files(service) == []
    assert left_behind(tmp_path) == []
    fitting = await post(service, form(field("k", "v"), file("c", b"z" * 400_000)))
    assert fitting.status_code == 201
