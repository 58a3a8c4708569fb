"""Download: the right bytes or an error, never a response that only seems complete."""

import hashlib
import random
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.download.headers import content_disposition
from {{cookiecutter.package_name}}.engine.storage import Draft, FileRecord
from {{cookiecutter.package_name}}.engine.storage.part import open_storage
from {{cookiecutter.package_name}}.engine.storage.records import clean_filename

from ..peer import PATIENCE
from ..service import SOAK, Service, ServiceProcess, make_settings
from ..storage.stored import lose, store

#: The policies of files that are displayed, and of those that are played.
SAFE = "sandbox; default-src 'none'"
PLAYABLE = "default-src 'none'; media-src 'self'"
UNKNOWN = "01a203f1-0be9-76ef-96de-a7f65289fcd1"


async def test_a_file_comes_back_as_it_was_stored(service: Service) -> None:
    data = random.randbytes(3 << 20)
    file_id = await store(service, data, filename="a.txt", content_type="text/plain")
    async with service.client() as client:
        response = await client.get(f"/files/{file_id}")

    assert hashlib.sha256(response.content).digest() == hashlib.sha256(data).digest()
    assert response.headers["content-length"] == str(len(data))
    assert response.headers["content-type"] == "text/plain"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["etag"] == f'"{file_id}"'
    assert await service.outcome_of("GET /files/{file_id}") == "complete"


@pytest.mark.trap("D5")
async def test_head_is_get_without_the_body(service: Service) -> None:
    file_id = await store(service, b"hello")
    async with service.client() as client:
        got = await client.get(f"/files/{file_id}")
        head = await client.head(f"/files/{file_id}", headers={"Range": "bytes=0-1"})

    varying = {"date", "x-request-id"}
    assert head.status_code == 200
    assert head.content == b""
    assert {k: v for k, v in head.headers.items() if k not in varying} == {
        k: v for k, v in got.headers.items() if k not in varying
    }


async def test_a_digest_that_was_computed_is_sent_along(service: Service) -> None:
    storage = service.app.state.storage

    async def keep() -> str:
        async with storage.create(Draft(filename="f")) as writer:
            await writer.write(b"x")
            return str((await storage.commit(writer, {"sha-256": "AAAA"})).id)

    file_id = await service.in_server(keep())
    async with service.client() as client:
        response = await client.get(f"/files/{file_id}")
    assert response.headers["repr-digest"] == "sha-256=:AAAA:"


async def test_an_empty_file_is_a_complete_answer(service: Service) -> None:
    file_id = await store(service, b"")
    async with service.client() as client:
        response = await client.get(f"/files/{file_id}")
        ranged = await client.get(f"/files/{file_id}", headers={"Range": "bytes=0-0"})
        end = await client.get(f"/files/{file_id}", headers={"Range": "bytes=-5"})

    assert (response.status_code, response.headers["content-length"]) == (200, "0")
    assert (ranged.status_code, ranged.headers["content-range"]) == (416, "bytes */0")
    assert (end.status_code, end.headers["content-length"]) == (200, "0")


@pytest.mark.trap("D1", "D2", "D14")
@pytest.mark.parametrize("name", [UNKNOWN, "nope", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd"])
async def test_what_is_not_there_is_404(service: Service, name: str) -> None:
    async with service.client() as client:
        assert (await client.get(f"/files/{name}")).status_code == 404
        assert (await client.head(f"/files/{name}")).status_code == 404


@pytest.mark.trap("D2")
async def test_a_record_whose_bytes_are_lost_is_404(service: Service) -> None:
    file_id = await store(service, b"x")
    lose(service, file_id)
    async with service.client() as client:
        assert (await client.get(f"/files/{file_id}")).status_code == 404


@pytest.mark.spec("rfc8246-2")
@pytest.mark.parametrize(
    ("max_age", "owner", "expected"),
    [
        ("0 s", None, "private, no-cache"),
        ("1 h", None, "public, max-age=3600, immutable"),
        ("1 h", "somebody", "private, max-age=3600, immutable"),
    ],
)
async def test_who_may_keep_a_file_and_for_how_long(
    serve: Callable[..., Any], max_age: str, owner: str | None, expected: str
) -> None:
    service = await serve(download={"max_age": max_age})
    file_id = await store(service, b"x", owner=owner)
    asked: list[dict[str, str]] = [{}, {"Range": "bytes=0-0"}, {"If-None-Match": "*"}]
    async with service.client() as client:
        answers = [await client.get(f"/files/{file_id}", headers=fields) for fields in asked]

    assert [answer.status_code for answer in answers] == [200, 206, 304]
    assert {answer.headers["cache-control"] for answer in answers} == {expected}


@pytest.mark.trap("D3")
async def test_every_response_can_be_read(service: Service) -> None:
    """Also one of the application that would have a malformed header: it is an error."""
    file_id = await store(service, b"x", filename="a.txt")
    async with service.raw_connection() as peer:
        await peer.get(f"/files/{file_id}")
        status, *fields = (await peer.read_head()).strip().split(b"\r\n")

    assert status.startswith(b"HTTP/1.1 ")
    assert all(re.match(rb"[!#-'*+.^-z|~0-9A-Z-]+:", field) for field in fields)


@pytest.mark.trap("D3", "D4")
@pytest.mark.spec("rfc6266-4.3", "rfc8187-3.2")
@pytest.mark.parametrize(
    "name",
    ["plain.txt", "hällo wörld.txt", "日本語 🎉.txt", 'a"b\\c%41.txt', "a; filename=evil.exe"],
)
async def test_any_name_survives_the_header(service: Service, name: str) -> None:
    file_id = await store(service, b"x", filename=name)
    async with service.client() as client:
        response = await client.get(f"/files/{file_id}")

    header = response.headers["content-disposition"]
    assert header.startswith('attachment; filename="')
    assert unquote(header.partition("filename*=UTF-8''")[2]) == name
    assert header.count(";") - name.count(";") == 2


@pytest.mark.trap("D3", "D4")
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("report 1.pdf", "report 1.pdf"),
        ("日本語 🎉.txt", "日本語 🎉.txt"),
        ("a\r\nSet-Cookie: b=1\r\n\r\n<script>", "aSet-Cookie: b=1<script>"),
        ('a"; filename=evil.exe', 'a"; filename=evil.exe'),
        ("../../etc/passwd", "passwd"),
        ("con", "_con"),
        ("n" * 400 + ".txt", "n" * 251 + ".txt"),
        ("", "own.txt"),
        ("\x00", "file"),
    ],
)
async def test_a_client_can_choose_the_name_of_a_download(
    service: Service, wanted: str, expected: str
) -> None:
    file_id = await store(service, b"x", filename="own.txt", content_type="text/plain")
    async with service.client() as client:
        saved = await client.get(f"/files/{file_id}", params={"filename": wanted})
        shown = await client.get(f"/files/{file_id}", params={"filename": wanted, "inline": 1})
        record = (await client.get(f"/files/{file_id}/record")).json()

    assert saved.headers["content-disposition"] == content_disposition(expected)
    assert shown.headers["content-disposition"] == content_disposition(expected, inline=True)
    assert "set-cookie" not in saved.headers
    assert saved.headers["content-type"] == "text/plain"
    assert record["filename"] == "own.txt"


@pytest.mark.spec("rfc6266-d")
@pytest.mark.parametrize(
    ("name", "ascii_form"),
    [
        ("plain.txt", "plain.txt"),
        ("hällo wörld.txt", "hallo world.txt"),
        ("ha\u0308llo.txt", "hallo.txt"),
        ("ﬁle №5 ½.txt", "file No5 12.txt"),
        ("日本語.txt", "___.txt"),
        ("straße 🎉.txt", "stra_e _.txt"),
        ('a"b\\c%41.txt', "a_b_c_41.txt"),
        ("a\r\nb\x7f.txt", "a__b_.txt"),
        ("\uff0e\uff0e\uff0fetc\uff0fpasswd", "_._etc_passwd"),
        ("50\uff05 \uff02off\uff02.txt", "50_ _off_.txt"),
    ],
)
def test_the_ascii_form_has_nothing_that_clients_disagree_about(name: str, ascii_form: str) -> None:
    assert f'; filename="{ascii_form}"; filename*=' in content_disposition(name)


@pytest.mark.bound("2.4")
@pytest.mark.fault("G40")
@pytest.mark.parametrize(("length", "inline"), [(255, 0), (255, 1), (256, 0), (5000, 1)])
@pytest.mark.parametrize("character", ["n", "é", "長", "\u33af", "\ufdfa", '"', "%", "\U0001f389"])
async def test_headers_do_not_grow_with_what_a_client_stored(
    service: Service, character: str, inline: int, length: int
) -> None:
    content_type = f"text/plain; title={'t' * (length - len('text/plain; title='))}"
    name = clean_filename(character * 400)
    file_id = await store(service, b"x", filename=name, content_type=content_type)
    async with service.client() as client:
        whole = await client.get(f"/files/{file_id}?inline={inline}")
        ranges = {"Range": "bytes=0-0,0-0"}
        part = await client.get(f"/files/{file_id}?inline={inline}", headers=ranges)

    for response in (whole, part):
        assert sum(len(name) + len(value) + 4 for name, value in response.headers.raw) < 2048
    if length > 255:
        assert whole.headers["content-type"] == "application/octet-stream"


@pytest.mark.fault("G25")
@pytest.mark.parametrize(
    ("name", "ascii_form"),
    [
        ("ñul.txt", "_nul.txt"),
        ("\uff23\uff2f\uff2e", "_CON"),
        ("com\u0301\u00b9", "_com1"),
        ("a\uff0e", "a"),
        ("\ufdfa", "file"),
    ],
)
def test_the_ascii_form_of_a_name_is_safe_too(name: str, ascii_form: str) -> None:
    assert f'; filename="{ascii_form}"; filename*=' in content_disposition(clean_filename(name))


@pytest.mark.trap("D10", "U17")
@pytest.mark.fault("G23")
@pytest.mark.parametrize(
    ("content_type", "disposition", "policy"),
    [
        ("text/html", "attachment", SAFE),
        ("text/xml", "attachment", SAFE),
        ("application/xhtml+xml", "attachment", SAFE),
        ("image/svg+xml", "attachment", SAFE),
        ("video/svg+xml", "attachment", SAFE),
        ("application/pdf", "inline", SAFE),
        ("image/png", "inline", SAFE),
        ("text/plain; charset=utf-8", "inline", SAFE),
        ("text/plain;,text/html", "attachment", SAFE),
        ("video/mp4;,text/html", "attachment", SAFE),
        ("image/png;,text/html", "attachment", SAFE),
        ("video/mp4", "inline", PLAYABLE),
        ('VIDEO/webm; codecs="vp8"', "inline", PLAYABLE),
        ("audio/vnd.wave", "inline", PLAYABLE),
    ],
)
async def test_a_strangers_file_cannot_run_in_a_browser(
    service: Service, content_type: str, disposition: str, policy: str
) -> None:
    file_id = await store(service, b"<script>", content_type=content_type)
    async with service.client() as client:
        headers = (await client.get(f"/files/{file_id}?inline=1")).headers
        saved = (await client.get(f"/files/{file_id}")).headers

    assert headers["content-disposition"].startswith(disposition)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == policy
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert saved["content-disposition"].startswith("attachment")
    assert saved["content-security-policy"] == SAFE


@pytest.mark.fault("G23")
@pytest.mark.parametrize(
    ("data", "content_type", "expected"),
    [
        (b"", "text/plain", "text/plain; charset=utf-8"),
        (b"plain", "text/plain", "text/plain; charset=utf-8"),
        ("Größe".encode(), "text/csv ;", "text/csv; charset=utf-8"),
        ("ö".encode() * 500_000, "text/plain", "text/plain; charset=utf-8"),
        (b"a" + "ö".encode() * 500_000, "text/plain", "text/plain; charset=utf-8"),
        ("Größe".encode("latin-1"), "text/plain", "text/plain"),
        ("Größe".encode("utf-16"), "text/plain", "text/plain"),
        ("Größe".encode(), "text/plain; charset=koi8-r", "text/plain; charset=koi8-r"),
        ("Größe".encode(), "image/png", "image/png"),
        ("Größe".encode(), "text/html", "text/html"),
    ],
)
async def test_a_text_in_utf_8_is_displayed_as_such(
    service: Service, data: bytes, content_type: str, expected: str
) -> None:
    file_id = await store(service, data, content_type=content_type)
    async with service.client() as client:
        saved = await client.get(f"/files/{file_id}")
        inline = await client.get(f"/files/{file_id}?inline=1")
        head = await client.head(f"/files/{file_id}?inline=1")

    assert saved.headers["content-type"] == content_type
    assert inline.headers["content-type"] == head.headers["content-type"] == expected
    assert inline.content == data


async def test_a_page_of_an_allowed_origin_may_show_a_picture(serve: Any) -> None:
    service: Service = await serve(cors={"origins": "https://app.example.com"})
    file_id = await store(service, b"GIF89a", content_type="image/gif")
    async with service.client() as client:
        headers = (await client.get(f"/files/{file_id}?inline=1")).headers

    assert headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.trap("D9")
@pytest.mark.slow
async def test_a_download_that_nobody_reads_is_cut_off(service: Service) -> None:
    file_id = await store(service, b"x" * (32 << 20))
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get(f"/files/{file_id}")

        assert await service.outcome_of("GET /files/{file_id}") == "slow_client"


async def test_downloads_may_have_deadlines_of_their_own(serve: Any) -> None:
    service: Service = await serve(
        streaming={"send_timeout": PATIENCE}, download={"send_timeout": 0.2}
    )
    file_id = await store(service, b"x" * (32 << 20))
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get(f"/files/{file_id}")

        assert await service.outcome_of("GET /files/{file_id}") == "slow_client"


@pytest.mark.trap("D9")
async def test_small_files_that_nobody_reads_are_cut_off(service: Service) -> None:
    file_id = await store(service, b"x" * 60_000)
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.send(f"GET /files/{file_id} HTTP/1.1\r\nHost: test\r\n\r\n".encode() * 300)

        # The first chunks fit into the socket buffers.
        while (outcome := await service.outcome_of("GET /files/{file_id}")) == "complete":
            pass
        assert outcome == "slow_client"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.slow
async def test_the_memory_is_flat_whatever_the_size(tmp_path: Path) -> None:
    size = min(SOAK, 16) * (128 << 20)
    settings = make_settings(storage={"url": f"file:{tmp_path / 'data'}"})
    async with (
        open_storage(settings.storage) as storage,
        storage.create(Draft(filename="large")) as writer,
    ):
        for _ in range(size >> 20):
            await writer.write(b"x" * (1 << 20))
        file_id = (await storage.commit(writer)).id

    async with ServiceProcess(tmp_path) as process, process.client() as client:
        await client.get(f"/files/{file_id}", headers={"Range": "bytes=0-1048575"})
        idle = process.peak_memory()
        async with client.stream("GET", f"/files/{file_id}") as response:
            received = sum([len(chunk) async for chunk in response.aiter_raw(1 << 20)])

        assert received == size
        assert process.peak_memory() - idle < 16 << 20


@pytest.mark.trap("D13")
async def test_a_file_that_became_shorter_aborts_the_download(service: Service) -> None:
    file_id = await store(service, b"x" * (1 << 20))
    lose(service, file_id, kept=300_000)

    async with service.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"/files/{file_id}")
    assert await service.outcome_of("GET /files/{file_id}") == "server_error"


@pytest.mark.trap("D6", "D14")
async def test_a_small_file_that_became_shorter_is_an_error_and_closed_before_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = await store(service, b"x" * 60_000)
    storage, kernel = service.app.state.storage, service.app.state.kernel
    lose(service, file_id, kept=30_000)
    opened, observe, events = storage.open, kernel.observe, list[str]()

    @asynccontextmanager
    async def watched(record: FileRecord) -> AsyncGenerator[Any]:
        try:
            async with opened(record) as file:
                yield file
        finally:
            events.append("closed")

    def observed(exchange: Any) -> None:
        events.append(exchange.outcome)
        observe(exchange)

    monkeypatch.setattr(storage, "open", watched)
    monkeypatch.setattr(kernel, "observe", observed)
    async with service.client() as client:
        assert (await client.get(f"/files/{file_id}")).status_code == 500
    await service.ended("GET /files/{file_id}")
    assert events == ["closed", "server_error"]
