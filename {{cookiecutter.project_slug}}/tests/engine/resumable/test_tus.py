"""tus 1.0.0, Core Protocol: versions, offsets, PATCH, HEAD and OPTIONS."""

import random

import pytest

from ..service import Service
from ..storage.stored import bytes_of, files
from ..upload.uploads import sha256
from .tus import CHUNK, Tus, begin_patch, id_of, in_pieces, patch_head, was_cut

EXTENSIONS = (
    "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,"
    "concatenation,concatenation-unfinished"
)
#: Not non-negative integers, although Python's `int` accepts some of them.
NO_INTEGERS = {
    "negative": "-5",
    "plus": "+5",
    "exponent": "1e3",
    "fraction": "5.0",
    "hexadecimal": "0x10",
    "underscore": "1_0",
    "empty": "",
    "word": "five",
    "list": "5, 5",
    "arabic": "\u0665".encode().decode("latin-1"),
    "fullwidth": "\uff15".encode().decode("latin-1"),
    "superscript": "\xb2",  # `str.isdigit` accepts it, `int` raises.
}


@pytest.mark.fault("F12")
@pytest.mark.spec("tus-C3", "tus-C9", "tus-C11", "tus-C12", "tus-C28", "tus-C29")
@pytest.mark.spec("tus-K1", "tus-D1", "tus-W1", "tus-W2", "tus-E1", "tus-X1", "tus-R1", "tus-N1")
@pytest.mark.parametrize("path", ["/uploads", "/uploads/", "/uploads/some-id"])
async def test_options_tells_what_the_service_can_whatever_version_is_asked_for(
    service: Service, path: str
) -> None:
    async with service.client() as client:
        response = await client.options(path)
        for version in ("1.0.0", "0.2.2", ""):
            asked = await client.options(path, headers={"Tus-Resumable": version})
            assert (asked.status_code, asked.headers["tus-version"]) == (200, "1.0.0")

    assert response.status_code == 200
    assert response.headers["tus-version"] == "1.0.0"
    assert response.headers["tus-resumable"] == "1.0.0"
    assert set(response.headers["tus-extension"].split(",")) == set(EXTENSIONS.split(","))
    assert response.headers["tus-max-size"] == str(64 << 20)


@pytest.mark.spec("tus-C6", "tus-C7", "tus-C8")
async def test_another_version_is_refused_and_changes_nothing(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(3)
        for version in ("0.2.2", "1.0.1", "2.0.0", "1", "", "nonsense"):
            other = {"Tus-Resumable": version}
            refused = [
                await tus.patch(url, 0, b"abc", other),
                await tus.create({"Upload-Length": "0", **other}),
                await tus.send("HEAD", url, other),
                await tus.send("DELETE", url, other),
            ]
            assert [response.status_code for response in refused] == [412] * 4
            assert {response.headers["tus-version"] for response in refused} == {"1.0.0"}

        twice = await tus.send("HEAD", url, [("Tus-Resumable", "1.0.0")] * 2)
        assert twice.status_code == 412
        assert await tus.offset(url) == 0
    assert await files(service) == []


@pytest.mark.spec("tus-C4", "tus-C5")
async def test_every_error_names_the_version(service: Service) -> None:
    async with Tus(service) as tus:  # The client checks it in every response.
        url = await tus.upload(3)
        errors = [
            await tus.create({}),
            await tus.create({"Upload-Length": "3", "Content-Type": "text/plain"}, b"x"),
            await tus.create({"Upload-Length": str(65 << 20)}),
            await tus.patch("/uploads/nothing", 0, b"abc"),
            await tus.patch(url, 1, b"ab"),
            await tus.patch(url, 0, b"abcd"),
            await tus.patch(url, 0, b"abc", {"Content-Type": "text/plain"}),
            await tus.patch(url, 0, b"abc", {"Upload-Checksum": "sha1 AAAA"}),
            await tus.send("PUT", url, {}, b"abc"),
        ]

    statuses = [response.status_code for response in errors]
    assert statuses == [400, 415, 413, 404, 409, 413, 415, 460, 405]


@pytest.mark.spec("tus-C13")
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_the_method_that_overrides_is_the_one_that_counts(
    service: Service, method: str
) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(6)
        fields = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0", "Content-Type": CHUNK}
        patched = await tus.send(method, url, fields, b"abc")
        headed = await tus.send(method, url, {"X-HTTP-Method-Override": "HEAD"})
        deleted = await tus.send(method, url, {"X-HTTP-Method-Override": "DELETE"})

        assert (patched.status_code, patched.headers["upload-offset"]) == (204, "3")
        assert (headed.status_code, headed.headers["upload-offset"]) == (200, "3")
        assert deleted.status_code == 204
        assert (await tus.head(url)).status_code == 404


@pytest.mark.spec("tus-C14", "tus-C15", "tus-C17", "tus-C18")
async def test_head_tells_offset_and_length_from_the_first_byte_to_the_last(
    service: Service,
) -> None:
    seen = []
    async with Tus(service) as tus:
        url = await tus.upload(6)
        for offset in (0, 3, 6):
            response = await tus.head(url)
            assert response.status_code == 200
            assert response.headers["cache-control"] == "no-store"
            seen.append((response.headers["upload-offset"], response.headers["upload-length"]))
            if offset < 6:
                await tus.patch(url, offset, b"abc")

        file_url = (await tus.record(url))["url"]
    assert seen == [("0", "6"), ("3", "6"), ("6", "6")]
    assert file_url.endswith(response.headers["content-location"])


@pytest.mark.spec("tus-C16", "tus-C25")
async def test_what_is_not_there_has_no_offset(service: Service) -> None:
    async with Tus(service) as tus:
        for name in ("0190a6c4-1f9b-7abc-8def-0123456789ab", "x", "..%5c..%5cparts", "%00"):
            headed = await tus.head(f"/uploads/{name}")
            patched = await tus.patch(f"/uploads/{name}", 0, b"abc")
            deleted = await tus.delete(f"/uploads/{name}")

            assert [r.status_code for r in (headed, patched, deleted)] == [404, 404, 404]
            assert "upload-offset" not in headed.headers


@pytest.mark.spec("tus-C19", "tus-C22", "tus-C23", "tus-C24")
async def test_a_file_can_come_in_pieces_of_any_size(service: Service) -> None:
    data, offset = random.randbytes(3 << 20), 0
    async with Tus(service) as tus:
        url = await tus.upload(len(data))
        for size in (1, 70_000, 0, 2 << 20, len(data)):
            piece = data[offset : offset + size]
            response = await tus.patch(url, offset, piece)
            offset += len(piece)
            assert (response.status_code, response.content) == (204, b"")
            assert response.headers["upload-offset"] == str(offset)

        again = await tus.patch(url, offset)
    assert (again.status_code, again.headers["upload-offset"]) == (204, str(len(data)))
    assert sha256(await bytes_of(service, id_of(url))) == sha256(data)


@pytest.mark.spec("tus-C19", "tus-C24")
async def test_a_body_of_undeclared_length_is_taken_as_it_comes(service: Service) -> None:
    """Node clients send every PATCH with `Transfer-Encoding: chunked`."""
    data = random.randbytes(100_000)
    async with Tus(service) as tus:
        url = await tus.upload(len(data))
        first = await tus.patch(url, 0, in_pieces(data[:60_000]))
        second = await tus.patch(url, 60_000, in_pieces(data[60_000:]))

    assert [first.headers["upload-offset"], second.headers["upload-offset"]] == ["60000", "100000"]
    assert sha256(await bytes_of(service, id_of(url))) == sha256(data)


@pytest.mark.spec("tus-C20")
async def test_a_chunk_of_another_type_is_refused(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(3)
        for content_type in ("application/octet-stream", "text/plain", "", "*/*"):
            response = await tus.patch(url, 0, b"abc", {"Content-Type": content_type})
            assert response.status_code == 415
            assert CHUNK in response.headers["accept-patch"]

        assert await tus.offset(url) == 0
        accepted = await tus.patch(url, 0, b"abc", {"Content-Type": CHUNK.title()})
    assert accepted.status_code == 204


@pytest.mark.spec("tus-C21")
async def test_a_chunk_for_another_offset_is_refused(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(6, {}, b"abc")
        for offset in (0, 2, 4, 6, 7, 2**63, 10**40):
            response = await tus.patch(url, offset, b"XXX")
            assert (response.status_code, response.headers["upload-offset"]) == (409, "3")

        assert (await tus.patch(url, 3, b"def")).status_code == 204
    assert await bytes_of(service, id_of(url)) == b"abcdef"


@pytest.mark.spec("tus-C1")
async def test_an_offset_that_is_no_integer_is_refused(service: Service) -> None:
    statuses = {}
    async with Tus(service) as tus:
        url = await tus.upload(6)
        for name, value in NO_INTEGERS.items():
            response = await tus.patch(url, 0, b"abc", {"Upload-Offset": value})
            statuses[name] = response.status_code

        assert await tus.offset(url) == 0
    assert statuses == dict.fromkeys(NO_INTEGERS, 400)


@pytest.mark.spec("tus-C1")
async def test_an_offset_must_be_there_and_once(service: Service) -> None:
    async with Tus(service) as tus:
        url = await tus.upload(6)
        missing = await tus.send("PATCH", url, {"Content-Type": CHUNK}, b"abc")
        twice = [("Content-Type", CHUNK), ("Upload-Offset", "0"), ("Upload-Offset", "3")]
        doubled = await tus.send("PATCH", url, twice, b"abc")

        assert [missing.status_code, doubled.status_code] == [400, 400]
        assert await tus.offset(url) == 0


@pytest.mark.spec("tus-C2")
async def test_a_length_that_is_no_integer_is_refused(service: Service) -> None:
    statuses = {}
    async with Tus(service) as tus:
        url = await tus.upload(None)
        for name, value in NO_INTEGERS.items():
            created = await tus.create({"Upload-Length": value})
            patched = await tus.patch(url, 0, b"abc", {"Upload-Length": value})
            statuses[name] = (created.status_code, patched.status_code)

        assert await tus.offset(url) == 0
    assert statuses == dict.fromkeys(NO_INTEGERS, (400, 400))


@pytest.mark.spec("tus-C2")
async def test_two_lengths_are_refused(service: Service) -> None:
    async with Tus(service) as tus:
        response = await tus.create([("Upload-Length", "3"), ("Upload-Length", "4")])

    assert response.status_code == 400


@pytest.mark.spec("tus-C21", "tus-C24")
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("excess", [1, 3 << 20])
async def test_a_body_beyond_the_length_is_refused_and_forgotten(
    service: Service, declared: bool, excess: int
) -> None:
    data = random.randbytes(10)
    body = data[4:] + b"X" * excess
    async with Tus(service) as tus:
        url = await tus.upload(10, {}, data[:4])
        response = await tus.patch(url, 4, body if declared else in_pieces(body, 1 << 16))

        assert response.status_code == 413
        assert await tus.offset(url) == 4
        assert await tus.record(url) is None
        assert (await tus.patch(url, 4, data[4:])).status_code == 204
        assert (await tus.patch(url, 10, b"X")).status_code == 413
    assert await bytes_of(service, id_of(url)) == data


@pytest.mark.fault("F8")
@pytest.mark.spec("tus-C26", "tus-C27")
async def test_a_body_that_stalls_is_closed_and_what_came_is_kept(service: Service) -> None:
    async with Tus(service) as tus, service.raw_connection() as peer:
        url = await tus.upload(6)
        await begin_patch(peer, url, 0, "Content-Length: 6")
        await peer.send(b"abc")

        assert await was_cut(peer)
        assert await tus.offset(url) == 3
        assert (await tus.patch(url, 3, b"def")).status_code == 204
    assert await bytes_of(service, id_of(url)) == b"abcdef"


@pytest.mark.spec("tus-C19")
async def test_a_slash_too_many_is_no_redirect(service: Service) -> None:
    async with Tus(service) as tus:
        response = await tus.send("POST", "/uploads/", {"Upload-Length": "3"})
        assert response.status_code == 201
        assert await tus.offset(response.headers["location"]) == 0


@pytest.mark.spec("tus-C26")
async def test_a_chunk_that_would_be_refused_is_not_sent(service: Service) -> None:
    async with Tus(service) as tus, service.raw_connection() as peer:
        url = await tus.upload(6)
        await peer.send(patch_head(url, 3, "Content-Length: 3", "Expect: 100-continue"))

        assert (await peer.read_head()).startswith(b"HTTP/1.1 409 ")
        assert await tus.offset(url) == 0
