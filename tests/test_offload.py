"""nginx in front of a generated service, configured as docs/deployment.md says."""

import hashlib
import json
import os
import pwd
import re
import socket
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from answers import REPOSITORY
from baking import Project
from environment import Environment
from running import running
from tools import program

#: All run in one process of pytest, which starts their services once.
pytestmark = pytest.mark.xdist_group("offload")

PAGE = (REPOSITORY / "docs/deployment.md").read_text("utf-8")
SIZE = 3 << 20
BODY = hashlib.shake_128(b"offload").digest(SIZE)
#: Seconds for whatever has to happen on a busy machine.
PATIENCE = 60
ORIGIN = "https://app.example.com"
#: What differs by its nature: the moment, the server, the connection.
VARYING = {"date", "server", "connection"}
#: A 206 says by itself that ranges work: nginx omits the field.
IN_RANGES = {"accept-ranges"}
#: The client has these already (RFC 9110, section 15.3.7): the service omits them, nginx does not.
AFTER_IF_RANGE = {"content-type", "last-modified"}
BOUNDARY = re.compile(r"boundary=\"?([^\s\";]+)")


class Answer(NamedTuple):
    """What a client can see of a response; of a large body, its digest."""

    status: int
    fields: list[tuple[str, str]]
    body: str


class Case(NamedTuple):
    """A request for a file, and whether nginx sends the bytes of the answer."""

    fields: dict[str, str]
    by_nginx: bool
    method: str = "GET"
    path: str = "/files/{id}"


NEVER = "Thu, 01 Jan 1970 00:00:00 GMT"
CASES = {
    "whole": Case({}, by_nginx=True),
    "inline": Case({}, by_nginx=True, path="/files/{id}?inline=1"),
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
    """Send a request on a connection of its own; a boundary, which may be random, is made equal."""
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
    nginx, folder = program("nginx"), tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(configuration(folder, port, behind, data), "utf-8")
        words = [nginx, "-p", str(folder), "-c", str(config), "-e", "stderr"]
        tested = subprocess.run([*words, "-t"], capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr
        # It takes the socket over as from a process of its own before an upgrade: the port is
        # free, and whoever connects now is served.
        handed = {**os.environ, "NGINX": f"{listener.fileno()};"}
        with subprocess.Popen(words, env=handed, pass_fds=[listener.fileno()]) as process:
            listener.close()
            try:
                yield port
            finally:
                process.terminate()


def configuration(folder: Path, port: int, service: int, data: Path) -> str:
    """Return the page's configuration with our addresses, in what every nginx.conf has."""
    (server,) = re.findall(r"^```nginx\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for written, ours in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server_name files.example.com;": "server_name 127.0.0.1;",
        "http://127.0.0.1:8000;": f"http://127.0.0.1:{service};",
        "alias /srv/streaming-service/data/files/;": f"alias {data}/files/;",
    }.items():
        assert server.count(written) == 1, written
        server = server.replace(written, ours)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # A worker of root's becomes another user, who may not see the folder; nobody else's does.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    return (
        f"{user} daemon off; pid {folder}/nginx.pid; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; gzip on; {temporary}\n{server}}}\n"
    )


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
def test_an_answer_through_nginx_is_that_of_the_service(
    name: str, stored: dict[str, str], direct: int, front: int
) -> None:
    case = CASES[name]
    fields = {field: value.format_map(stored) for field, value in case.fields.items()}
    path = case.path.format_map(stored)

    assert ask(front, case.method, path, fields) == ask(direct, case.method, path, fields)


@pytest.mark.parametrize("name", CASES)
def test_nginx_sends_what_it_decides_like_the_service(
    name: str, stored: dict[str, str], behind: int
) -> None:
    case = CASES[name]
    fields = {field: value.format_map(stored) for field, value in case.fields.items()}
    answer = ask(behind, case.method, case.path.format_map(stored), fields)

    path = f"/_files/{stored['id'][-2:]}/{stored['id']}"
    assert dict(answer.fields).get("x-accel-redirect") == (path if case.by_nginx else None)
    assert not case.by_nginx or answer.body == hashlib.sha256(b"").hexdigest()


def test_nobody_but_the_service_can_name_a_file_to_nginx(
    stored: dict[str, str], front: int
) -> None:
    path = f"/_files/{stored['id'][-2:]}/{stored['id']}"

    assert ask(front, "GET", path, {}).status == 404
    assert ask(front, "GET", path, {"X-Accel-Redirect": path}).status == 404


def test_an_upload_through_nginx_is_stored(direct: int, front: int) -> None:
    record = upload(front, "/files?filename=through.bin", {})

    assert record["url"] == f"http://127.0.0.1:{front}/files/{record['id']}"
    assert ask(direct, "GET", f"/files/{record['id']}", {}).body == hashlib.sha256(BODY).hexdigest()


def test_the_service_sees_the_beginning_of_a_body_before_its_end(front: int) -> None:
    row = b'{"sensor": "s", "value": 1}\n'
    head = (
        b"POST /ingest/readings?results=stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/jsonl\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", front), PATIENCE) as connection:
        connection.sendall(head + b"%x\r\n%s\r\n" % (len(row), row))
        response = HTTPResponse(connection)
        response.begin()
        first = json.loads(response.readline())  # the body has not ended yet
        connection.sendall(b"0\r\n\r\n")
        last = json.loads(response.readlines()[-1])

    assert (response.status, first) == (200, {"line": 1, "accepted": True})
    assert "$end" in last


def test_an_event_passes_nginx_at_once(front: int) -> None:
    head = b"GET /topics/nginx/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front), PATIENCE) as connection:
        connection.sendall(head)
        response = HTTPResponse(connection)
        response.begin()
        opened = response.readline()  # the stream goes on, and says nothing more by itself
        event = {"Content-Type": "text/plain"}
        published = ask(front, "POST", "/topics/nginx/events", event, b"hello")
        lines = iter(response.readline, b"")
        arrived = next(line for line in lines if line.startswith(b"data: "))

    assert (opened[:6], published.status, arrived) == (b"retry:", 202, b"data: hello\n")


def test_a_failure_half_way_is_seen_through_nginx(front: int) -> None:
    url = f"http://127.0.0.1:{front}/exports/lines?count=100000&fail_after=50000"
    words = [program("curl"), "--silent", "--header", "Accept: text/csv", url]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE, check=False)

    assert done.returncode == 18  # CURLE_PARTIAL_FILE
    assert done.stdout.startswith(b"number,text")
