"""Every kind of stream through nginx, with the configuration of deploy/nginx.conf."""

import base64
import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import pytest

from baking import Project
from environment import Environment
from nginx import nginx_before
from running import running
from tools import program

#: Maximum seconds to wait on a busy machine.
PATIENCE = 60
MIB = 1 << 20
BODY = hashlib.shake_128(b"nginx").digest(5 * MIB)
TEXT = {"Content-Type": "text/plain"}
TUS = {"Tus-Resumable": "1.0.0"}
OFFSET = {**TUS, "Content-Type": "application/offset+octet-stream"}
NAME = "files.localhost:8080"  # The service accepts it without a setting.


class Peer:
    """A connection to nginx, and its response."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.response = HTTPResponse(connection)

    def ask(
        self, method: str, path: str, fields: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        """Send the headers, with the length of the body unless the fields contain it."""
        told = {"Host": NAME, "Content-Length": str(len(body)), **(fields or {})}
        if "Transfer-Encoding" in told:
            del told["Content-Length"]
        lines = [f"{method} {path} HTTP/1.1", *(": ".join(field) for field in told.items())]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            more = self._connection.recv(size - len(received))
            assert more, received
            received += more
        return received

    def begin(self) -> HTTPResponse:
        self.response.begin()
        return self.response


@contextmanager
def connected(port: int) -> Iterator[Peer]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        yield Peer(connection)


def exchange(
    port: int, method: str, path: str, fields: dict[str, str] | None = None, body: bytes = b""
) -> tuple[HTTPResponse, bytes]:
    """Send a request on a new connection, and return the whole response."""
    with connected(port) as peer:
        peer.response = HTTPResponse(peer._connection, method=method)
        peer.ask(method, path, fields, body)
        response = peer.begin()
        return response, response.read()


def publish(port: int, topic: str, text: bytes) -> str:
    response, body = exchange(port, "POST", f"/topics/{topic}/events", TEXT, text)
    assert response.status == 202
    return str(json.loads(body)["id"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def front(
    full: Project, environment: Environment, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of nginx in front of a service."""
    settings = {"STORAGE__URL": f"file:{data}", "UPLOAD__MAX_SIZE": "64 MiB"}
    settings["SERVER__TRUSTED_PROXIES"] = "127.0.0.1"
    with (
        running(full, environment, data, **settings) as service,
        nginx_before(tmp_path_factory.mktemp("nginx"), data, service) as port,
    ):
        yield port


def test_an_upload_is_written_while_it_is_sent(front: int, data: Path) -> None:
    with connected(front) as peer:
        peer.ask("POST", "/files?filename=a.bin", {"Content-Length": str(len(BODY))})
        peer.send(BODY[: 3 * MIB])
        deadline = time.monotonic() + PATIENCE
        while not any(part.stat().st_size for part in (data / "parts").glob("*.part")):
            assert time.monotonic() < deadline, "nginx keeps the body"
            time.sleep(0.01)
        peer.send(BODY[3 * MIB :])
        response = peer.begin()
        record = json.loads(response.read())

    assert (response.status, record["size"]) == (201, len(BODY))
    assert record["url"] == response.headers["Location"] == f"http://{NAME}/files/{record['id']}"


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(front: int) -> None:
    with connected(front) as peer:
        peer.ask("POST", "/files", {"Content-Length": str(65 * MIB)})
        response = peer.begin()
        document = json.loads(response.read())

    assert (response.status, document["status"]) == (413, 413)


def test_an_upload_is_resumed_after_the_sent_bytes(front: int) -> None:
    length = {"Upload-Length": str(len(BODY))}
    created, _ = exchange(front, "POST", "/uploads", {**TUS, **length})
    location = created.headers["Location"]
    path = location.removeprefix(f"http://{NAME}")
    assert (created.status, path[:9]) == (201, "/uploads/")

    with connected(front) as peer:
        fields = {**OFFSET, "Upload-Offset": "0", "Content-Length": str(len(BODY))}
        peer.ask("PATCH", path, fields)
        peer.send(BODY[: 2 * MIB])
    deadline, offset = time.monotonic() + PATIENCE, 0
    while offset < 2 * MIB:
        assert time.monotonic() < deadline, f"only {offset} bytes have arrived"
        offset = int(exchange(front, "HEAD", path, TUS)[0].headers["Upload-Offset"])
    rest = {**OFFSET, "Upload-Offset": str(offset)}
    answer, _ = exchange(front, "PATCH", path, rest, BODY[offset:])
    _, stored = exchange(front, "GET", path.replace("/uploads/", "/files/"))

    assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(len(BODY)))
    assert hashlib.sha256(stored).digest() == hashlib.sha256(BODY).digest()


@pytest.mark.fault("G40")
def test_the_metadata_of_an_upload_fits_into_the_buffer(front: int) -> None:
    value = base64.b64encode(b"x" * 6000).decode()
    metadata = f"key {value}"
    fields = {**TUS, "Upload-Length": "1", "Upload-Metadata": metadata}
    created, _ = exchange(front, "POST", "/uploads", fields)
    location = created.headers["Location"]

    head, _ = exchange(front, "HEAD", f"/uploads/{location.rpartition('/')[2]}", TUS)

    assert (head.status, head.headers["Upload-Metadata"]) == (200, metadata)


def test_ranges_of_a_file_are_sent(front: int) -> None:
    _, body = exchange(front, "POST", "/files", {}, BODY)
    path = f"/files/{json.loads(body)['id']}"
    whole, _ = exchange(front, "HEAD", path)
    part, data = exchange(front, "GET", path, {"Range": "bytes=1000-2999999"})
    several, _ = exchange(front, "GET", path, {"Range": "bytes=0-9,2000-2009"})
    same, _ = exchange(front, "GET", path, {"If-None-Match": whole.headers["ETag"]})

    assert not whole.headers["ETag"].startswith("W/")
    assert (part.status, data) == (206, BODY[1000:3_000_000])
    assert part.headers["Content-Range"] == f"bytes 1000-2999999/{len(BODY)}"
    assert several.headers["Content-Type"].startswith("multipart/byteranges")
    assert same.status == 304


def test_an_event_stream_begins_at_once_and_events_come_as_they_are_published(front: int) -> None:
    with connected(front) as peer:
        peer.ask("GET", "/topics/sse/events")
        response = peer.begin()
        opened = response.readline()  # The stream continues, without further events.
        publish(front, "sse", b"hello")
        arrived = next(line for line in iter(response.readline, b"") if line[:5] == b"data:")

    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert (opened[:6], arrived) == (b"retry:", b"data: hello\n")


def test_json_lines_come_as_they_are_published(front: int) -> None:
    with connected(front) as peer:
        peer.ask("GET", "/topics/lines/events", {"Accept": "application/jsonl"})
        response = peer.begin()
        assert response.readline() == b"\n"
        event_id = publish(front, "lines", b"hello")
        line = json.loads(response.readline())

    assert (line["id"], line["data"]) == (event_id, "hello")


def test_a_poll_returns_events_that_are_published_while_it_waits(front: int) -> None:
    _, now = exchange(front, "GET", "/topics/poll/events?poll=0")
    position = json.loads(now)["last_event_id"]
    with connected(front) as peer:
        peer.ask("GET", f"/topics/poll/events?poll={PATIENCE}&last_event_id={position}")
        publish(front, "poll", b"hello")
        answer = json.loads(peer.begin().read())

    assert [event["data"] for event in answer["events"]] == ["hello"]


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    "Sec-WebSocket-Version": "13",
}


def frame(text: str) -> bytes:
    """Return a text frame of a client, with at most 125 bytes (RFC 6455, section 5.2)."""
    mask, data = os.urandom(4), text.encode()
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    return bytes([0x81, 0x80 | len(data)]) + mask + masked


def next_frame(peer: Peer) -> dict[str, object]:
    opcode, size = peer.receive(2)
    assert (opcode, size < 126) == (0x81, True)
    message: dict[str, object] = json.loads(peer.receive(size))
    return message


@pytest.mark.fault("F16")
def test_a_websocket_works_both_ways(front: int) -> None:
    with connected(front) as peer:
        peer.ask("GET", "/topics/ws/ws", UPGRADE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.receive(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert next_frame(peer)["type"] == "subscribed"
        peer.send(frame('{"type":"publish","topic":"other","data":1,"ref":7}'))
        acknowledged = next_frame(peer)
        publish(front, "ws", b"hello")
        event = next_frame(peer)

    assert (acknowledged["type"], acknowledged["ref"]) == ("ack", 7)
    assert (event["type"], event["data"]) == ("event", "hello")


@pytest.mark.fault("F16")
def test_a_page_of_the_same_host_may_open_a_websocket(front: int) -> None:
    for origin, status in ((f"http://{NAME}", 101), ("http://evil.example", 403)):
        with connected(front) as peer:
            peer.ask("GET", "/topics/ws/ws", {**UPGRADE, "Origin": origin})
            assert peer.receive(12) == f"HTTP/1.1 {status}".encode()


@pytest.mark.fault("F14")
def test_a_plain_request_for_a_websocket_gets_426(front: int) -> None:
    response, _ = exchange(front, "GET", "/topics/ws/ws")

    assert (response.status, response.headers["Upgrade"]) == (426, "websocket")
    assert response.headers["Sec-WebSocket-Version"] == "13"


def test_a_transform_answers_while_it_is_sent(front: int) -> None:
    with connected(front) as peer:
        peer.ask("POST", "/transform/upper", {**TEXT, "Transfer-Encoding": "chunked"})
        peer.send_chunk(b"first")
        response = peer.begin()
        first = response.read(5)
        peer.send_chunk(b"second")
        second = response.read(6)
        peer.send(b"0\r\n\r\n")
        rest = response.read()

    assert (first, second, rest) == (b"FIRST", b"SECOND", b"")


@pytest.mark.parametrize("accept", ["text/csv", "application/jsonl"])
def test_an_export_that_fails_half_way_is_seen_to_be_cut(front: int, accept: str) -> None:
    url = f"http://127.0.0.1:{front}/exports/lines?count=10000&fail_after=5000"
    words = [program("curl"), "--silent", "--header", f"Accept: {accept}", url]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE, check=False)

    assert done.stdout.count(b"\n") >= 5000
    assert done.returncode == 18  # CURLE_PARTIAL_FILE


def test_clients_cannot_forge_an_address_or_a_host(front: int) -> None:
    fields = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example;proto=https"}
    response, body = exchange(front, "POST", "/files", fields, b"x")

    assert response.headers["Location"].startswith(f"http://{NAME}/files/")
    assert json.loads(body)["url"] == response.headers["Location"]


@pytest.mark.bound("9.1")
def test_a_name_that_is_not_allowed_is_refused(front: int) -> None:
    fields = {"Host": "evil.example", "X-Forwarded-Host": NAME, "Forwarded": f"host={NAME}"}
    assert exchange(front, "GET", "/files", fields)[0].status == 421
