"""RFC 9110, section 14: range requests."""

import re
from typing import Any

import aiofiles
import pytest

from {{cookiecutter.package_name}}.engine.server import sendfile

from .served import DATA, SIZE, Answer, Served, sha256

SAFETY = {
    "x-content-type-options",
    "content-security-policy",
    "cross-origin-resource-policy",
    "referrer-policy",
}
#: The only headers of a 206 with If-Range: the client has the others.
NEEDED = {"etag", "cache-control", "content-length", "accept-ranges", "content-disposition"}


@pytest.mark.local
async def test_the_bytes_go_the_way_that_is_tested(
    file: Served, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = set()

    def zero_copy(*arguments: Any) -> Any:
        used.add("zero-copy")
        return send(*arguments)

    def opened(*arguments: Any, **options: Any) -> Any:
        used.add("aiofiles")
        return aiofiles_open(*arguments, **options)

    send, aiofiles_open = sendfile.send, aiofiles.open
    monkeypatch.setattr(sendfile, "send", zero_copy)
    monkeypatch.setattr(aiofiles, "open", opened)
    for lines in ([], ["Range: bytes=1-200000"], ["Range: bytes=200000-280000,10-90000"]):
        assert (await file.get(*lines)).status in (200, 206)

        way = request.node.callspec.params["file"].split()[1]
        assert used == {way} - {"page-cache"}
        used.clear()


@pytest.mark.spec("rfc9110-14.1", "rfc9110-14.1.2a", "rfc9110-14.1.2b", "rfc9110-14.4")
@pytest.mark.spec("rfc9110-15.3.7.1", "rfc9110-15.3.7.2d", "rfc9110-15.3.7.2e", "rfc9110-8.6")
@pytest.mark.parametrize(
    ("specs", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("BYTES=1000-200999", 1000, 201_000),
        ("Bytes=100000-", 100_000, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-100000", SIZE - 100_000, SIZE),
        ("bytes=250000-" + "9" * 40, 250_000, SIZE),
        ("bytes=-" + "9" * 40, 0, SIZE),
        ("bytes=0-", 0, SIZE),
        ("bytes=5-9,300000-,-0", 5, 10),
        ("bytes=100-200,0-150,180-99999", 0, 100_000),
    ],
)
async def test_one_range_is_one_part(file: Served, specs: str, start: int, stop: int) -> None:
    answer = await file.get(f"Range: {specs}")

    assert (answer.status, sha256(answer.body)) == (206, sha256(DATA[start:stop]))
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.headers["content-type"] == "text/plain"


@pytest.mark.spec("rfc9110-15.3.7.2a", "rfc9110-15.3.7.2b", "rfc9110-15.3.7.2c", "rfc9110-8.6")
@pytest.mark.spec("rfc9110-15.3.7.2f", "rfc9110-15.3.7.2g", "rfc9110-5.6.1.2", "rfc9110-14.4")
@pytest.mark.parametrize(
    ("specs", "parts"),
    [
        ("bytes=200000-280000,10-90000", [(200_000, 280_001), (10, 90_001)]),
        ("bytes=0-0,-1", [(0, 1), (SIZE - 1, SIZE)]),
        ("bytes= ,500-509 ,,\t0-9,", [(500, 510), (0, 10)]),
        ("bytes=9000-9009,40-49,0-9,9015-9020", [(9000, 9021), (0, 50)]),
        ("bytes=0-9,300000-,500-509", [(0, 10), (500, 510)]),
    ],
)
async def test_several_ranges_are_several_parts_in_the_order_asked_for(
    file: Served, specs: str, parts: list[tuple[int, int]]
) -> None:
    answer = await file.get(f"Range: {specs}")

    assert answer.status == 206
    assert "content-range" not in answer.headers
    assert parts_of(answer) == [
        {
            "content-type": "text/plain",
            "content-range": f"bytes {start}-{stop - 1}/{SIZE}",
            "sha256": sha256(DATA[start:stop]),
        }
        for start, stop in parts
    ]


def parts_of(answer: Answer) -> list[dict[str, str]]:
    """Return the headers and the hash of each part of a multipart/byteranges body."""
    boundary = answer.headers["content-type"].removeprefix("multipart/byteranges; boundary=")
    first, *parts, last = (b"\r\n" + answer.body).split(b"\r\n--" + boundary.encode())
    assert (first, last) == (b"", b"--\r\n")
    found = []
    for part in parts:
        head, _, payload = part.partition(b"\r\n\r\n")
        lines = head.decode().removeprefix("\r\n").split("\r\n")
        fields = dict(line.lower().split(": ") for line in lines)
        found.append({**fields, "sha256": sha256(payload)})
    return found


@pytest.mark.spec("rfc9110-14.1.1", "rfc9110-14.2b", "rfc9110-14.2c", "rfc9110-5.3")
@pytest.mark.parametrize(
    "lines",
    [
        ["Range: lines=0-1"],
        ["Range: bytes=1-0"],
        ["Range: bytes=0-1,5-2"],
        ["Range: bytes=0-1,junk"],
        ["Range: bytes=+0-1"],
        ["Range: bytes=0_0-1"],
        ["Range: bytes = 0-1"],
        ["Range: bytes=0-1;2-3"],
        ["Range: bytes="],
        ["Range: bytes=-"],
        ["Range: nonsense"],
        ["Range: bytes=0-1", "Range: bytes=900-901"],
    ],
)
async def test_a_range_that_is_not_all_valid_is_answered_with_the_whole(
    file: Served, lines: list[str]
) -> None:
    answer = await file.get(*lines)

    assert (answer.status, sha256(answer.body)) == (200, sha256(DATA))
    assert "content-range" not in answer.headers


@pytest.mark.spec("rfc9110-14.2d")
async def test_many_small_ranges_never_cost_more_than_the_whole(file: Served) -> None:
    tiny = ",".join(f"{n * 1000}-{n * 1000}" for n in range(99))
    overlapping = ",".join(["0-"] * 99)
    many = ",".join(f"{n}-" for n in range(999))
    alternating = ",".join(f"{n * 1000}-{n * 1000 + 900}" for n in range(300))
    for specs in (overlapping, many):
        answer = await file.get(f"Range: bytes={specs}")
        assert (answer.status, len(answer.body)) == (206, SIZE)
    answer = await file.get(f"Range: bytes={tiny}")
    assert answer.status == 206
    assert len(answer.body) < 99 * 200
    answer = await file.get(f"Range: bytes={alternating}")
    assert (answer.status, len(answer.body)) == (200, SIZE)


@pytest.mark.spec("rfc9110-14.1.2c", "rfc9110-15.5.17a", "rfc9110-15.5.17b", "rfc9110-14.3")
@pytest.mark.parametrize("specs", ["bytes=300000-", "bytes=-0", "bytes=999999-,-0,400000-500000"])
async def test_what_no_range_can_satisfy_is_416(file: Served, specs: str) -> None:
    answer = await file.get(f"Range: {specs}")

    assert answer.status == 416
    assert answer.fields("content-range", "accept-ranges") == [f"bytes */{SIZE}", "bytes"]
    assert not {"etag", "last-modified", "content-disposition"} & answer.names


@pytest.mark.spec("rfc9110-15.3.7a", "rfc9110-15.3.7c")
async def test_a_206_has_all_that_describes_the_file(file: Served) -> None:
    whole = await file.get()
    single = await file.get("Range: bytes=0-9")
    several = await file.get("Range: bytes=0-9,500-509")

    assert single.names == whole.names | {"content-range"}
    assert several.names == whole.names
    same = sorted(whole.names - {"content-length", "content-type"})
    assert single.fields(*same) == several.fields(*same) == whole.fields(*same)
    assert "date" in single.headers
    assert "date" in several.headers


@pytest.mark.spec("rfc9110-15.3.7b")
async def test_a_206_to_if_range_repeats_no_other_description(file: Served) -> None:
    single = await file.get("Range: bytes=0-9", "If-Range: TAG")
    several = await file.get("Range: bytes=0-9,500-509", "If-Range: TAG")
    changed = await file.get("Range: bytes=0-9", 'If-Range: "other"')

    assert single.names == NEEDED | SAFETY | {"content-range"}
    assert several.names == NEEDED | SAFETY | {"content-type"}
    assert re.match("multipart/byteranges;", several.headers["content-type"])
    assert (changed.status, changed.names) == (200, (await file.get()).names)
