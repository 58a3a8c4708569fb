"""Upload: a file is visible when all of it is durable, or not at all."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from ..peer import PATIENCE
from ..service import Service
from ..storage.stored import bytes_of, files
from .uploads import digest, head, left_behind, sha256

FORM = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nx\r\n--b--\r\n'


async def test_a_raw_body_becomes_a_file(service: Service) -> None:
    data = random.randbytes(3 << 20)
    async with service.client() as client:
        response = await client.post(
            "/files?filename=a.bin", content=data, headers={"Content-Type": "application/x-test"}
        )

    assert response.status_code == 201
    record = response.json()
    assert response.headers["location"] == record["url"]
    assert record["url"].startswith(service.url)
    assert (record["filename"], record["content_type"]) == ("a.bin", "application/x-test")
    assert (record["size"], record["digest"], record["owner"]) == (len(data), None, None)
    assert sha256(await bytes_of(service, record["id"])) == sha256(data)
    assert await service.outcome_of("POST /files") == "complete"


async def test_a_chunked_body_and_an_empty_one_become_files(service: Service) -> None:
    async def chunks() -> Any:
        for _ in range(3):
            yield b"abc"

    async with service.client() as client:
        chunked = (await client.post("/files", content=chunks())).json()
        empty = (await client.post("/files")).json()

    assert await bytes_of(service, chunked["id"]) == b"abcabcabc"
    assert await bytes_of(service, empty["id"]) == b""
    assert chunked["filename"] == "file"


@pytest.mark.trap("U8")
async def test_a_file_is_invisible_until_it_is_complete(serve: Any, tmp_path: Path) -> None:
    service: Service = await serve(streaming={"idle_timeout": PATIENCE})
    async with service.raw_connection() as peer, service.client() as client:
        await peer.send(head(7 << 20) + bytes(6 << 20))
        async with asyncio.timeout(PATIENCE):
            while not left_behind(tmp_path):
                await asyncio.sleep(0.01)  # No event shows that the service has begun to store it.

        assert await files(service) == []
        file_id = left_behind(tmp_path)[0].partition(".")[0]
        assert (await client.get(f"/files/{file_id}/record")).status_code == 404

        await peer.send(bytes(1 << 20))
        assert b" 201 " in await peer.read_head()
    assert len(await files(service)) == 1


@pytest.mark.trap("U9")
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.bound("H11")
async def test_a_body_over_the_limit_is_refused(serve: Any, tmp_path: Path, declared: bool) -> None:
    async def chunks() -> Any:
        for _ in range(512):
            yield b"x" * 1024

    service: Service = await serve(upload={"max_size": "64 KiB"})
    async with service.client() as client:
        body: Any = b"x" * 512 * 1024 if declared else chunks()
        response = await client.post("/files", content=body)

    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert await service.outcome_of("POST /files") == "rejected"
    assert left_behind(tmp_path) == []


async def test_a_client_that_waits_for_100_continue_sends_nothing_in_vain(serve: Any) -> None:
    service: Service = await serve(upload={"max_size": 10})
    async with service.raw_connection() as peer:
        await peer.send(head(1000, "Expect: 100-continue"))

        assert (await peer.read_head()).startswith(b"HTTP/1.1 413 ")
        await peer.read_to_end()
    assert (await service.ended("POST /files")).bytes_in == 0


@pytest.mark.trap("U6")
@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("../../evil", "evil"),
        ("/nowhere/at/all/evil", "evil"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("a\x00b\r\nc", "abc"),
        ("", "file"),
        ("..", "file"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("n" * 300 + ".txt", "n" * 251 + ".txt"),
        ("CON.txt", "_CON.txt"),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)
async def test_a_name_is_metadata_and_never_a_path(
    service: Service, tmp_path: Path, name: str, stored: str
) -> None:
    async with service.client() as client:
        response = await client.post("/files", params={"filename": name}, content=b"x")

    assert response.status_code == 201
    assert response.json()["filename"] == stored
    assert {path.name for path in tmp_path.iterdir()} <= {"data"}


async def test_a_name_can_come_from_content_disposition(service: Service) -> None:
    header = "attachment; filename=\"plain.txt\"; filename*=UTF-8''h%C3%A4llo.txt"
    async with service.client() as client:
        response = await client.post("/files", headers={"Content-Disposition": header})

    assert response.json()["filename"] == "hällo.txt"
    assert response.json()["content_type"] == "text/plain"


@pytest.mark.trap("U14")
@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
async def test_a_wrong_digest_is_refused(
    service: Service, tmp_path: Path, field: str, algorithm: str
) -> None:
    async with service.client() as client:
        right = await client.post("/files", content=b"x", headers={field: digest(algorithm, b"x")})
        wrong = await client.post("/files", content=b"y", headers={field: digest(algorithm, b"x")})
        unknown = await client.post("/files", content=b"y", headers={field: "md5=:AAAA:"})

    assert [right.status_code, wrong.status_code, unknown.status_code] == [201, 400, 201]
    assert len(await files(service)) == 2
    assert left_behind(tmp_path) == []


A, B = digest("sha-256", b"a"), digest("sha-256", b"b")


@pytest.mark.fault("G22")
@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([A.removesuffix("=:") + ":"], 201),
        ([f'md5=:AAAA:;note="x, sha-256=:AAAA:", {A}'], 201),
        ([f"{B}, {A}"], 201),
        ([B, A], 201),
        ([f"{A}, {B}"], 400),
        ([A, B], 400),
        ([f"md5=:AAAA:;a, *x.-_=::, {A};b=?1"], 201),
        ([f"unixsum=1, {A}"], 400),
        ([f"md5=(:AAAA:), {A}"], 400),
        (["sha-256=1"], 400),
        (["sha-256"], 400),
        ([f"{A},"], 400),
        ([f"{A} {A}"], 400),
        (["sha-256=:A:"], 400),
    ],
)
async def test_a_digest_field_is_a_dictionary(
    service: Service, field: str, lines: list[str], status: int
) -> None:
    async with service.client() as client:
        answer = await client.post(
            "/files", content=b"a", headers=[(field, each) for each in lines]
        )

    assert answer.status_code == status, answer.text


async def test_a_digest_is_answered_when_it_is_asked_for(service: Service) -> None:
    data = random.randbytes(1 << 20)
    async with service.client() as client:
        response = await client.post(
            "/files", content=data, headers={"Want-Repr-Digest": "sha-256=3, sha-512=8, md5=9"}
        )
        declined = await client.post("/files", headers={"Want-Repr-Digest": "sha-512=0"})

    assert response.headers["repr-digest"] == digest("sha-512", data)
    assert response.json()["digest"] == {"sha-512": digest("sha-512", data)[9:-1]}
    assert "repr-digest" not in declined.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "multipart/mixed; boundary=b"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Digest": "nonsense"}, 400),
    ],
)
async def test_what_would_become_a_wrong_file_is_refused(
    service: Service, headers: dict[str, str], status: int
) -> None:
    async with service.client() as client:
        response = await client.post("/files", content=FORM, headers=headers)

    assert response.status_code == status
    assert await files(service) == []


@pytest.mark.fault("G22")
@pytest.mark.parametrize("value", ["?0", '?0;a="b, c"', "?0, ?0"])
async def test_a_part_of_an_upload_is_never_stored_as_a_file(service: Service, value: str) -> None:
    async with service.client() as client:
        response = await client.post("/files", content=b"x", headers={"Upload-Complete": value})

    assert response.status_code in (201, 400)  # 201 with resumable uploads.
    assert "/files/" not in response.headers.get("location", "")
    assert await files(service) == []


@pytest.mark.trap("U7")
async def test_uploads_to_one_name_at_once_are_separate_files(service: Service) -> None:
    bodies = [bytes([number]) * (1 << 20) for number in range(8)]
    async with service.client() as client:
        responses = await asyncio.gather(
            *(client.post("/files?filename=same", content=body) for body in bodies)
        )

    stored = [await bytes_of(service, response.json()["id"]) for response in responses]
    assert list(map(sha256, stored)) == list(map(sha256, bodies))


@pytest.mark.parametrize("charset", ["idna", "undefined", "punycode", "utf-16", ""])
async def test_a_name_in_an_encoding_that_nobody_uses_is_passed_over(
    service: Service, charset: str
) -> None:
    header = f"attachment; filename*={charset}''%80abc; filename=plain.txt"
    async with service.client() as client:
        response = await client.post("/files", headers={"Content-Disposition": header})

    assert response.json()["filename"] == "plain.txt"


async def test_an_address_with_a_slash_too_many_is_no_redirect_for_a_whole_body(
    service: Service,
) -> None:
    async with service.client() as client:
        response = await client.post("/files/", content=b"x" * (8 << 20))

    assert response.status_code == 404
    assert response.headers["connection"] == "close"


async def test_a_name_keeps_the_joiners_that_its_script_is_written_with(service: Service) -> None:
    name = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}.txt"
    async with service.client() as client:
        response = await client.post("/files", params={"filename": name})

    assert response.json()["filename"] == name


@pytest.mark.parametrize("cut", [1, 65_536, 299_999, 300_000])
async def test_requests_one_behind_the_other_on_a_connection_are_told_apart(
    service: Service, cut: int
) -> None:
    """A body ends at its length, also in the middle of a segment."""
    first, second = random.randbytes(300_000), random.randbytes(10)
    async with service.raw_connection() as peer:
        await peer.send(head(len(first), "Expect: 100-continue"))
        await peer.read_until(b"100 Continue\r\n\r\n")
        await peer.send(first[:cut])
        await peer.send(first[cut:] + head(len(second)) + second[:3])
        await peer.read_until(b'"id":"')
        ids = [(await peer.read_until(b'"'))[:-1].decode()]
        await peer.send(second[3:])
        await peer.read_until(b'"id":"')
        ids.append((await peer.read_until(b'"'))[:-1].decode())

    stored = [await bytes_of(service, file_id) for file_id in ids]
    assert list(map(sha256, stored)) == [sha256(first), sha256(second)]


async def test_an_upgrade_behind_a_body_takes_nothing_of_it(service: Service) -> None:
    upgrade = "Host: x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"
    lines = [
        "GET /nowhere HTTP/1.1",
        *upgrade,
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "",
        "",
    ]
    async with service.raw_connection() as peer:
        await peer.send(head(5) + b"hello" + "\r\n".join(lines).encode())
        await service.ended("POST /files")

    [record] = await files(service)
    assert await bytes_of(service, record.id) == b"hello"
