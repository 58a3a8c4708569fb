"""The headers of a file: RFC 9110, RFC 6266 and 8187 (its name), RFC 9530 (its digest)."""

import base64
import hashlib
import re

import pytest

from {{cookiecutter.package_name}}.engine.storage import Draft

from .served import DATA, Served, sha256

SHA256 = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
SHA512 = base64.b64encode(hashlib.sha512(DATA).digest()).decode()


@pytest.mark.spec("rfc9110-8.6", "rfc9110-8.8.2", "rfc9110-8.8.3a", "rfc9110-14.3")
@pytest.mark.spec("rfc9110-5.6.7b", "rfc9110-6.6.1")
async def test_a_file_comes_with_its_validators(file: Served) -> None:
    answer = await file.get()

    assert (answer.status, sha256(answer.body)) == (200, sha256(DATA))
    assert answer.fields("etag", "accept-ranges") == [file.tag, "bytes"]
    assert answer.fields("last-modified") == [file.dates(0)["IMF-fixdate"]]
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", answer.headers["date"])


@pytest.mark.spec("rfc9110-9.3.2a", "rfc9110-9.3.2b", "rfc9110-14.2a")
@pytest.mark.parametrize("line", ["Range: bytes=0-1", "Range: bytes=999999-", "X-Nothing: 1"])
async def test_head_has_the_fields_of_get_and_ignores_range(file: Served, line: str) -> None:
    got, head = await file.get(), await file.head(line)

    assert (head.status, head.body) == (200, b"")
    assert head.names == got.names
    assert head.fields(*sorted(got.names)) == got.fields(*sorted(got.names))


@pytest.mark.spec("rfc6266-4.1", "rfc6266-4.3", "rfc6266-d", "rfc8187-3.2")
async def test_the_name_comes_in_ascii_and_as_it_is(file: Served) -> None:
    attachment = await file.get()
    inline = await file.ask("GET", path=f"{file.path}?inline=1")

    names = "filename=\"hallo.txt\"; filename*=UTF-8''h%C3%A4llo.txt"
    assert attachment.fields("content-disposition") == [f"attachment; {names}"]
    assert inline.fields("content-disposition") == [f"inline; {names}"]
    safety = ["nosniff", "sandbox; default-src 'none'", "same-origin"]
    names = "x-content-type-options content-security-policy cross-origin-resource-policy"
    assert attachment.fields(*names.split()) == inline.fields(*names.split()) == safety


@pytest.mark.spec("rfc9530-3", "rfc9530-4")
@pytest.mark.fault("G22")
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("", "sha-256=:QUE=:, sha-512=:QkI=:"),
        ("sha-512=9, sha-256=5", "sha-512=:QkI=:"),
        ("sha-512=1, sha-256=5", "sha-256=:QUE=:"),
        ("md5=9", "sha-256=:QUE=:, sha-512=:QkI=:"),
        ('md5=9;a="b, c", sha-512=9', "sha-512=:QkI=:"),
        ("sha-256=9, sha-512=3, sha-256=1", "sha-512=:QkI=:"),
        ("sha-256=9, sha-512", "sha-256=:QUE=:"),
        ("sha-256=9,", "sha-256=:QUE=:, sha-512=:QkI=:"),
    ],
)
async def test_of_the_stored_digests_the_preferred_one_is_sent(
    file: Served, wanted: str, expected: str
) -> None:
    storage = file.service.app.state.storage

    async def keep() -> str:
        async with storage.create(Draft(filename="f")) as writer:
            await writer.write(bytes(100))
            return str((await storage.commit(writer, {"sha-256": "QUE=", "sha-512": "QkI="})).id)

    path = f"/files/{await file.service.in_server(keep())}"
    line = f"Want-Repr-Digest: {wanted}"
    whole = await file.ask("GET", [line], path)
    part = await file.ask("GET", [line, "Range: bytes=0-9"], path)
    head = await file.ask("HEAD", [line], path)

    assert [answer.status for answer in (whole, part, head)] == [200, 206, 200]
    for answer in (whole, part, head):
        assert answer.fields("repr-digest") == [expected]


@pytest.mark.spec("rfc9530-4")
async def test_a_digest_that_was_not_stored_is_not_computed(file: Served) -> None:
    assert (await file.get("Want-Repr-Digest: sha-256=1")).fields("repr-digest") == [None]
