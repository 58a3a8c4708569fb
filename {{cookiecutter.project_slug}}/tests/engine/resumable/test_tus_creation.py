"""tus 1.0.0: Creation, Creation With Upload, and deferred lengths."""

import base64
import random
import re
from pathlib import Path
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.storage import Callbacks, FileRecord

from ..service import Service
from ..storage.stored import bytes_of, files
from ..upload.uploads import sha256
from .tus import CHUNK, Tus, id_of, in_pieces, metadata, unfinished

EXPECT = {"Upload-Length": "3", "Content-Type": CHUNK}


@pytest.mark.spec("tus-K10", "tus-K11")
async def test_an_upload_is_created_at_an_absolute_address(service: Service) -> None:
    async with Tus(service) as tus:
        response = await tus.create({"Upload-Length": "3"})

    assert response.status_code == 201
    location = response.headers["location"]
    assert re.fullmatch(re.escape(service.url) + "/uploads/[0-9a-f-]{36}", location)


@pytest.mark.spec("tus-K11")
async def test_an_address_follows_the_setting_and_no_stranger(serve: Any) -> None:
    told = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example", "Host": "h:1"}
    service: Service = await serve(server={"trusted_proxies": "192.0.2.1"})
    url, hosts = "https://files.example.com", "h,evil.example"
    public: Service = await serve(server={"public_url": url, "allowed_hosts": hosts})
    async with Tus(service) as tus, Tus(public) as behind:
        plain = await tus.create({"Upload-Length": "3", **told})
        set_ = await behind.create({"Upload-Length": "3", **told})

    assert plain.headers["location"].startswith("http://h:1/uploads/")
    assert set_.headers["location"].startswith("https://files.example.com/uploads/")


@pytest.mark.spec("tus-K9", "tus-K2")
async def test_exactly_one_of_length_and_deferral_is_needed(
    service: Service, tmp_path: Path
) -> None:
    wrong = [{"Upload-Defer-Length": value} for value in ("0", "2", "", "true", "01", "1, 1")]
    wrong += [{}, *({"Upload-Length": "3", "Upload-Defer-Length": value} for value in "01")]
    async with Tus(service) as tus:
        statuses = [(await tus.create(fields)).status_code for fields in wrong]

    assert statuses == [400] * len(wrong)
    assert unfinished(tmp_path) == []


@pytest.mark.spec("tus-K12")
async def test_an_upload_of_nothing_is_complete_at_once(service: Service) -> None:
    stored: list[str] = []

    async def note(record: FileRecord) -> None:
        stored.append(record.id)

    service.app.state.storage.callbacks = [Callbacks(on_stored=note)]
    async with Tus(service) as tus:
        url = await tus.upload(0, {"Upload-Metadata": metadata(filename="empty.txt")})
        headed = await tus.head(url)
        record = await tus.record(url)

    assert (headed.headers["upload-offset"], headed.headers["upload-length"]) == ("0", "0")
    assert (record["size"], record["filename"]) == (0, "empty.txt")
    assert stored == [id_of(url)]


@pytest.mark.spec("tus-K13")
async def test_a_length_above_the_limit_is_refused(service: Service, tmp_path: Path) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(None)
        for length in ((64 << 20) + 1, 2**63, 10**40, 10**2000):
            created = await tus.create({"Upload-Length": str(length)})
            patched = await tus.patch(url, 0, b"abc", {"Upload-Length": str(length)})
            assert [created.status_code, patched.status_code] == [413, 413]
        # A number with more digits than Python parses exceeds the limit of a header.
        endless = {"Tus-Resumable": "1.0.0", "Upload-Length": "9" * 5000}
        async with service.client() as client:
            assert (await client.post("/uploads", headers=endless)).status_code == 431
        assert await tus.offset(url) == 0
        await tus.delete(url)
    assert unfinished(tmp_path) == []


@pytest.mark.spec("tus-K3", "tus-K7", "tus-K14")
async def test_metadata_is_given_back_as_sent_and_describes_the_file(service: Service) -> None:
    known = metadata(filename="wörld.pdf", filetype="application/pdf", place="Zürich")
    sent = f"{known},is_confidential,empty ,numbers MTIz"
    async with Tus(service) as tus:
        url = await tus.upload(3, {"Upload-Metadata": sent}, b"abc")
        headed = await tus.head(url)
        record = await tus.record(url)

    assert headed.headers["upload-metadata"] == sent
    assert (record["filename"], record["content_type"]) == ("wörld.pdf", "application/pdf")
    rest = {"place": "Zürich", "is_confidential": "", "empty": "", "numbers": "123"}
    assert record["metadata"].items() >= rest.items()


@pytest.mark.spec("tus-K3", "tus-K14")
async def test_metadata_in_two_fields_is_one_list(service: Service) -> None:
    """A list may be split into several headers (RFC 9110, section 5.3)."""
    fields = [("Upload-Metadata", "a YQ=="), ("Upload-Metadata", "b Yg=="), ("Upload-Length", "0")]
    async with Tus(service) as tus:
        url = (await tus.create(fields)).headers["location"]
        told = (await tus.head(url)).headers["upload-metadata"]
        record = await tus.record(url)

    assert re.split(", ?", told) == ["a YQ==", "b Yg=="]
    assert record["metadata"].items() >= {"a": "a", "b": "b"}.items()


@pytest.mark.spec("tus-K3")
async def test_metadata_of_nothing_is_none_and_other_names_are_understood(
    service: Service,
) -> None:
    """Some clients send the header without a value; some use `name` and `type`."""
    other = metadata(name="a.txt", type="text/x-test")
    async with Tus(service) as tus:
        without = await tus.upload(0, {"Upload-Metadata": ""})
        renamed = await tus.record(await tus.upload(0, {"Upload-Metadata": other}))
        assert (await tus.head(without)).headers.get("upload-metadata", "") == ""
        assert (await tus.record(without))["filename"] == "file"

    assert (renamed["filename"], renamed["content_type"]) == ("a.txt", "text/x-test")


@pytest.mark.spec("tus-K4", "tus-K5", "tus-K6")
async def test_metadata_that_breaks_the_rules_is_refused(service: Service, tmp_path: Path) -> None:
    wrong = [
        *("a YQ==,", ",a YQ==", "a YQ==,,b Yg==", ",", "a YQ==,\tb Yg=="),
        *("a YQ== b", "a b YQ==", "a  YQ==", "a YQ==;b Yg=="),
        *("a YQ==,a Yg==", "a,a", "filename YQ==,filename Yg=="),
        *("a Y", "a !!!!", "a YQ==YQ==", "a =YQ=", "a -_-_", "a Y\xb2=="),
        *("\xe9 YQ==", "\xc3\xa9 YQ=="),
    ]
    statuses = {}
    async with Tus(service) as tus:
        for value in wrong:
            response = await tus.create({"Upload-Length": "3", "Upload-Metadata": value})
            statuses[value] = response.status_code

    assert statuses == dict.fromkeys(wrong, 400)
    assert unfinished(tmp_path) == []


@pytest.mark.spec("tus-K8")
@pytest.mark.parametrize("value", [b"a\r\nX-Evil: 1", b"a\x00\x7f", b"\xff\xfe", b"../../etc/x"])
async def test_metadata_is_no_way_into_a_header_or_a_path(
    service: Service, tmp_path: Path, value: bytes
) -> None:
    sent = metadata(filename=value, filetype=value, other=value)
    async with Tus(service) as tus:
        url = await tus.upload(3, {"Upload-Metadata": sent}, b"abc")
        headed = await tus.head(url)
        record = await tus.record(url)
        listed = await tus.http.get("/files")

    assert headed.headers["upload-metadata"] == sent
    assert "x-evil" not in headed.headers
    assert not re.search(r"[\x00-\x1f\x7f/]", record["filename"])
    assert re.fullmatch(r"[\x20-\x7e]+", record["content_type"])
    assert listed.status_code == 200
    assert {path.name for path in tmp_path.iterdir()} <= {"data"}


@pytest.mark.spec("tus-K8")
async def test_metadata_beyond_all_measure_is_refused(service: Service, tmp_path: Path) -> None:
    long = base64.b64encode(random.randbytes(40 << 10)).decode()
    async with Tus(service) as tus:
        response = await tus.create({"Upload-Length": "3", "Upload-Metadata": f"a {long}"})

    assert response.status_code in (400, 413, 431)
    assert unfinished(tmp_path) == []


@pytest.mark.spec("tus-D2", "tus-D4", "tus-D5")
@pytest.mark.parametrize("late", [0, 1, 2, 3])
async def test_a_deferred_length_can_come_with_any_later_chunk(service: Service, late: int) -> None:
    seen = []
    async with Tus(service) as tus:
        url = await tus.upload(None)
        for number, piece in enumerate([b"abc", b"def", b"ghi", b""]):
            fields = {"Upload-Length": "9"} if number == late else {}
            assert (await tus.patch(url, await tus.offset(url), piece, fields)).status_code == 204
            headers = (await tus.head(url)).headers
            seen.append((headers.get("upload-defer-length"), headers.get("upload-length")))
        record = await tus.record(url)

    assert seen == [("1", None)] * late + [(None, "9")] * (4 - late)
    assert record["size"] == 9
    assert await bytes_of(service, id_of(url)) == b"abcdefghi"


@pytest.mark.spec("tus-D3")
async def test_a_length_that_is_known_stays(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(None)
        wrong = await tus.patch(url, 5, b"abc", {"Upload-Length": "3"})
        assert wrong.status_code == 409
        assert "upload-length" not in (await tus.head(url)).headers  # The whole request is refused.
        assert (await tus.patch(url, 0, b"abc", {"Upload-Length": "6"})).status_code == 204
        assert (await tus.patch(url, 3, b"def", {"Upload-Length": "9"})).status_code == 400
        assert await tus.offset(url) == 3
        assert (await tus.patch(url, 3, b"def", {"Upload-Length": "6"})).status_code == 204
        assert (await tus.record(url))["size"] == 6


@pytest.mark.spec("tus-D2", "tus-K13")
async def test_a_deferred_length_fits_what_is_there_and_the_limit(serve: Any) -> None:
    service: Service = await serve(upload={"max_size": 10})
    async with Tus(service) as tus:
        url = await tus.upload(None, {}, b"abcdef")
        assert (await tus.patch(url, 6, b"", {"Upload-Length": "5"})).status_code == 400
        assert (await tus.patch(url, 6, in_pieces(b"X" * 5))).status_code == 413
        assert await tus.offset(url) == 6
        assert (await tus.patch(url, 6, b"", {"Upload-Length": "6"})).status_code == 204
    assert await bytes_of(service, id_of(url)) == b"abcdef"


@pytest.mark.spec("tus-W4", "tus-W5", "tus-W6")
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("share", [1, 300_000, 1_000_000])
async def test_a_creation_takes_as_much_of_the_file_as_it_is_given(
    service: Service, declared: bool, share: int
) -> None:
    data = random.randbytes(1_000_000)
    first = data[:share] if declared else in_pieces(data[:share], 1 << 16)
    async with Tus(service) as tus:
        response = await tus.create({"Upload-Length": "1000000", "Content-Type": CHUNK}, first)
        assert (response.status_code, response.headers["upload-offset"]) == (201, str(share))
        url = response.headers["location"]
        assert await tus.offset(url) == share
        if share < len(data):
            await tus.patch(url, share, data[share:])
    assert sha256(await bytes_of(service, id_of(url))) == sha256(data)


@pytest.mark.spec("tus-W3")
async def test_a_body_at_the_creation_has_the_type_of_a_chunk(
    service: Service, tmp_path: Path
) -> None:
    length = {"Upload-Length": "3"}
    async with Tus(service) as tus:
        for content_type in ("text/plain", "application/octet-stream", ""):
            for body in (b"abc", in_pieces(b"abc")):
                response = await tus.create(length | {"Content-Type": content_type}, body)
                assert response.status_code == 415
        assert unfinished(tmp_path) == []
        assert (await tus.create(length | {"Content-Type": "text/plain"})).status_code == 201


@pytest.mark.spec("tus-K10")
@pytest.mark.parametrize("kind", ["Upload-Length: 0", "Upload-Concat: final;"])
async def test_a_creation_needs_no_content_length(service: Service, kind: str) -> None:
    """Without it and `Transfer-Encoding` there is no body (RFC 9112, section 6.3)."""
    async with Tus(service) as tus, service.raw_connection() as peer:
        if kind.endswith(";"):
            part = await tus.upload(3, {"Upload-Concat": "partial"}, b"abc")
            kind += f"/uploads/{id_of(part)}"
        lines = ["POST /uploads HTTP/1.1", "Host: x", "Tus-Resumable: 1.0.0", kind, "", ""]
        await peer.send("\r\n".join(lines).encode())
        assert (await peer.read_head()).startswith(b"HTTP/1.1 201 ")


@pytest.mark.spec("tus-W4", "tus-W6")
@pytest.mark.parametrize("declared", [True, False])
async def test_a_creation_with_too_much_creates_nothing(
    service: Service, tmp_path: Path, declared: bool
) -> None:
    async with Tus(service) as tus:
        response = await tus.create(EXPECT, b"abcd" if declared else in_pieces(b"abcd"))

    assert response.status_code == 413
    assert await files(service) == []
    assert unfinished(tmp_path) == []


@pytest.mark.spec("tus-W7")
@pytest.mark.parametrize(("length", "answer"), [("3", b"100 "), ("4000000000", b"413 ")])
async def test_a_client_that_expects_100_continue_learns_early(
    service: Service, length: str, answer: bytes
) -> None:
    lines = ["POST /uploads HTTP/1.1", "Host: x", "Tus-Resumable: 1.0.0", f"Content-Type: {CHUNK}"]
    lines += [f"Upload-Length: {length}", "Content-Length: 3", "Expect: 100-continue", "", ""]
    async with service.raw_connection() as peer:
        await peer.send("\r\n".join(lines).encode())
        assert (await peer.read_head()).startswith(b"HTTP/1.1 " + answer)
        if answer == b"100 ":
            await peer.send(b"abc")
            assert b"\r\nupload-offset: 3\r\n" in (await peer.read_head()).lower()
