"""nginx sends the files of a generated service, with the configuration of deploy/nginx.conf."""

import hashlib
import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from baking import Project
from environment import Environment
from nginx import nginx_before
from running import running

SIZE = 3 << 20
BODY = hashlib.shake_128(b"offload").digest(SIZE)
#: Maximum seconds to wait on a busy machine.
PATIENCE = 60
ORIGIN = "https://app.example.com"
#: Fields that always differ: date, server, connection.
VARYING = {"date", "server", "connection"}
#: nginx omits `Accept-Ranges` in a 206.
IN_RANGES = {"accept-ranges"}
#: The client has these fields (RFC 9110, section 15.3.7): the service omits them, nginx does not.
AFTER_IF_RANGE = {"content-type", "last-modified"}
BOUNDARY = re.compile(r"boundary=\"?([^\s\";]+)")


class Answer(NamedTuple):
    """A response as a client receives it; a large body is replaced by its digest."""

    status: int
    fields: list[tuple[str, str]]
    body: str


class Case(NamedTuple):
    """A request for a file, and whether nginx sends the bytes of the response."""

    fields: dict[str, str]
    by_nginx: bool
    method: str = "GET"
    path: str = "/files/{id}"


NEVER = "Thu, 01 Jan 1970 00:00:00 GMT"
CASES = {
    "whole": Case({}, by_nginx=True),
    "inline": Case({}, by_nginx=True, path="/files/{id}?inline=1"),
    "another name": Case({}, by_nginx=True, path="/files/{id}?filename=Gr%C3%B6%C3%9Fe%0D%0A2"),
    "another origin": Case({"Origin": ORIGIN}, by_nginx=True),
    "head": Case({}, by_nginx=False, method="HEAD"),
    "head of a range": Case({"Range": "bytes=0-9"}, by_nginx=False, method="HEAD"),
    "range": Case({"Range": "bytes=1000-2000000"}, by_nginx=True),
    "range of another origin": Case({"Range": "bytes=1-", "Origin": ORIGIN}, by_nginx=True),
    "first byte": Case({"Range": "bytes=0-0"}, by_nginx=True),
    "everything": Case({"Range": "bytes=0-"}, by_nginx=True),
    "the end": Case({"Range": "bytes=-5"}, by_nginx=True),
    "more than everything": Case({"Range": f"bytes=-{SIZE * 2}"}, by_nginx=True),
    "beyond the end": Case({"Range": f"bytes=7-{SIZE * 2}"}, by_nginx=True),
    "far beyond the end": Case({"Range": "bytes=7-99999999999999999999"}, by_nginx=False),
    "outside": Case({"Range": f"bytes={SIZE}-"}, by_nginx=False),
    "an empty end": Case({"Range": "bytes=-0"}, by_nginx=False),
    "backwards": Case({"Range": "bytes=5-2"}, by_nginx=False),
    "no range": Case({"Range": "bytes=-"}, by_nginx=False),
    "another unit": Case({"Range": "lines=1-2"}, by_nginx=False),
    "a unit in capitals": Case({"Range": "BYTES=2-8"}, by_nginx=True),
    "spaces": Case({"Range": "bytes= 2-8"}, by_nginx=False),
    "two ranges": Case({"Range": "bytes=0-9,2000-2009"}, by_nginx=False),
    "a range and nothing": Case({"Range": "bytes=0-9,"}, by_nginx=False),
    "if-range": Case({"Range": "bytes=5-9", "If-Range": "{etag}"}, by_nginx=True),
    "if-range of another": Case({"Range": "bytes=5-9", "If-Range": '"other"'}, by_nginx=False),
    "if-range, weak": Case({"Range": "bytes=5-9", "If-Range": "W/{etag}"}, by_nginx=False),
    "if-range, date": Case({"Range": "bytes=5-9", "If-Range": "{modified}"}, by_nginx=False),
    "if-range, old": Case({"Range": "bytes=5-9", "If-Range": NEVER}, by_nginx=False),
    "if-none-match": Case({"If-None-Match": "{etag}"}, by_nginx=False),
    "if-none-match, other": Case({"If-None-Match": '"other"'}, by_nginx=True),
    "if-none-match, any": Case({"If-None-Match": "*"}, by_nginx=False),
    "if-modified-since": Case({"If-Modified-Since": "{modified}"}, by_nginx=False),
    "if-modified-since, old": Case({"If-Modified-Since": NEVER}, by_nginx=True),
    "both": Case({"If-None-Match": '"other"', "If-Modified-Since": "{modified}"}, by_nginx=True),
    "if-match": Case({"If-Match": "{etag}"}, by_nginx=False),
    "if-match of a range": Case({"If-Match": "{etag}", "Range": "bytes=0-9"}, by_nginx=False),
    "if-match, other": Case({"If-Match": '"other"'}, by_nginx=False),
    "if-unmodified-since": Case({"If-Unmodified-Since": "{modified}"}, by_nginx=False),
    "if-unmodified-since, old": Case({"If-Unmodified-Since": NEVER}, by_nginx=False),
    "no such file": Case({}, by_nginx=False, path="/files/01a20539-b399-73b5-9924-811d5e98488e"),
    "no file at all": Case({"Range": "bytes=0-9"}, by_nginx=False, path="/files/_files"),
}  # fmt: skip


def ask(port: int, method: str, path: str, fields: dict[str, str], body: bytes = b"") -> Answer:
    """Send a request on a new connection; replace the boundary, which may be random."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body or None, {"X-Request-ID": "test-offload"} | fields)
        response = connection.getresponse()
        data = response.read()
        text = BOUNDARY.search(response.headers.get("content-type", ""))
        boundary = text[1] if text else "-"
        left_out = set(VARYING)
        if response.status == 206:
            left_out |= IN_RANGES | (AFTER_IF_RANGE if "If-Range" in fields else set())
        shown = [
            (name.lower(), value.replace(boundary, "-"))
            for name, value in response.getheaders()
            if name.lower() not in left_out
        ]
        plain = data.replace(boundary.encode(), b"-")
        return Answer(response.status, sorted(shown), hashlib.sha256(plain).hexdigest())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def direct(full: Project, environment: Environment, data: Path) -> Iterator[int]:
    """The port of a service that sends its files itself."""
    settings = {"STORAGE__URL": f"file:{data}", "CORS__ORIGINS": ORIGIN}
    with running(full, environment, data, **settings) as port:
        yield port


@pytest.fixture(scope="module")
def behind(full: Project, environment: Environment, data: Path) -> Iterator[int]:
    """The port of a service that lets nginx send the same files."""
    settings = {"STORAGE__URL": f"file:{data}", "CORS__ORIGINS": ORIGIN}
    settings["DOWNLOAD__OFFLOAD"] = "x-accel-redirect"
    with running(full, environment, data, **settings) as port:
        yield port


@pytest.fixture(scope="module")
def front(behind: int, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx in front of that service."""
    with nginx_before(tmp_path_factory.mktemp("nginx"), data, behind) as port:
        yield port


@pytest.fixture(scope="module")
def stored(direct: int) -> dict[str, str]:
    """A file with a name and a digest, and its validators."""
    name = quote("Größe 中文 \U0001f389.png")
    want = {"Content-Type": "image/png", "Want-Repr-Digest": "sha-256=9"}
    record = upload(direct, f"/files?filename={name}", want)
    answer = ask(direct, "HEAD", f"/files/{record['id']}", {})
    fields = dict(answer.fields)
    assert "repr-digest" in fields
    return {"id": record["id"], "etag": fields["etag"], "modified": fields["last-modified"]}


def upload(port: int, path: str, fields: dict[str, str]) -> dict[str, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", path, BODY, fields)
        response = connection.getresponse()
        assert response.status == 201
        record: dict[str, str] = json.load(response)
        return record
    finally:
        connection.close()


@pytest.mark.parametrize("name", CASES)
def test_a_response_through_nginx_is_that_of_the_service(
    name: str, stored: dict[str, str], direct: int, front: int
) -> None:
    case = CASES[name]
    fields = {field: value.format_map(stored) for field, value in case.fields.items()}
    path = case.path.format_map(stored)

    assert ask(front, case.method, path, fields) == ask(direct, case.method, path, fields)


@pytest.mark.parametrize("name", CASES)
def test_nginx_evaluates_requests_like_the_service(
    name: str, stored: dict[str, str], behind: int
) -> None:
    case = CASES[name]
    fields = {field: value.format_map(stored) for field, value in case.fields.items()}
    answer = ask(behind, case.method, case.path.format_map(stored), fields)

    path = f"/_files/{stored['id'][-2:]}/{stored['id']}"
    assert dict(answer.fields).get("x-accel-redirect") == (path if case.by_nginx else None)
    assert not case.by_nginx or answer.body == hashlib.sha256(b"").hexdigest()


def test_only_the_service_can_select_a_file_for_nginx(stored: dict[str, str], front: int) -> None:
    path = f"/_files/{stored['id'][-2:]}/{stored['id']}"

    assert ask(front, "GET", path, {}).status == 404
    assert ask(front, "GET", path, {"X-Accel-Redirect": path}).status == 404


def test_an_upload_through_nginx_is_stored(direct: int, front: int) -> None:
    record = upload(front, "/files?filename=through.bin", {})

    assert record["url"] == f"http://127.0.0.1:{front}/files/{record['id']}"
    assert ask(direct, "GET", f"/files/{record['id']}", {}).body == hashlib.sha256(BODY).hexdigest()
