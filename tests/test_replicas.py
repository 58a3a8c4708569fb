"""An upload continues at another replica, whether the first one was killed or still receives it."""

import hashlib
import json
import os
import random
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from statistics import median, quantiles
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from baking import Project
from environment import Environment
from replicas import AWS, Replicas, two_replicas
from silent import RovingLine
from test_upload_clients import (
    PATIENCE,
    digests_of,
    origin,  # noqa: F401
    page,  # noqa: F401
    python,  # noqa: F401
    sha256_of,
    stored_in,
)

pytestmark = pytest.mark.long

SOAK = int(os.environ.get("SOAK", "1"))
#: Commands, with fixtures in braces; the arguments are the service, a file, and a folder. The
#: clients continue by themselves, except for tuspy, which is started again.
CLIENTS = {
    "tus-js-client": "{node} {scripts}/tus_js.mjs tus-newest tus-v1 1",
    "tuspy": "{python} {scripts}/tuspy_client.py",
    "draft": "{python} {scripts}/draft_client.py",
}
#: Random places of death for each client, and the sizes of files: of a few parts.
KILLS = 2 if SOAK == 1 else 67
SIZES = 1 << 20, 24 << 20
#: The files that Uppy sends, and the bytes of each: of a few parts.
FILES, FILE_SIZE = 6 if SOAK == 1 else 60, 12 << 20
#: Uploads of which a request asks one replica for the offset while another one receives them.
ASKED = 4 if SOAK == 1 else 100
TUS = {"Tus-Resumable": "1.0.0"}
#: Finds the uploads in the log of a replica that it has received and not completed.
PATCHED = re.compile(r'"method":"PATCH",.*"outcome":"rejected",.*"path":"(/uploads/[^"]+)"')
APPEND = {**TUS, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture(scope="module")
def replicas(
    full: Project,
    environment: Environment,
    origin: str,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Replicas]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("replicas")
        with two_replicas(full, environment, folder, CORS__ORIGINS=origin) as both:
            yield both


def test_no_upload_of_uppy_fails_when_its_connections_come_back_at_another_replica(
    replicas: Replicas,
    node: str,
    scripts: Path,
    chromium: str,
    page: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    files, state = tmp_path / "files", tmp_path / "state"
    files.mkdir()
    for number in range(FILES):
        data = hashlib.shake_128(b"uppy %d" % number).digest(FILE_SIZE)
        (files / f"{number}.bin").write_bytes(data)
    with RovingLine(*replicas.ports, least=FILE_SIZE // 8, most=FILE_SIZE // 2) as line:
        run = [node, str(scripts / "uppy.mjs"), chromium, page, line.url, str(files), str(state)]
        subprocess.run(run, check=True, timeout=PATIENCE)

    for port in replicas.ports:
        assert sorted(stored_in(port)) == digests_of(files)
    delete_all(replicas.ports[0])
    assert line.drops >= FILES
    # At least one upload was received by both replicas in turn.
    one, other = (set(PATCHED.findall("".join(log))) for log in replicas.logs)
    assert one & other


def test_a_replica_responds_about_an_upload_that_another_one_receives(replicas: Replicas) -> None:
    data = hashlib.shake_128(b"asked").digest(24 << 20)
    seconds = []
    for number in range(ASKED):
        holder, other = replicas.ports[:: (-1) ** number]
        length = {"Upload-Length": str(len(data))}
        _, fields, _ = ask(holder, "POST", "/uploads", {**TUS, **length})
        path = urlsplit(fields["location"]).path
        # Not the last bytes, so that it does not end.
        with receiving(holder, path, data[: -1 << 20], len(data)):
            began = time.perf_counter()
            status, fields, _ = ask(other, "HEAD", path, TUS)
            seconds.append(time.perf_counter() - began)
        assert status == 200
        offset = int(fields["upload-offset"])
        assert offset < len(data)
        rest = {**APPEND, "Upload-Offset": str(offset)}
        assert ask(other, "PATCH", path, rest, data[offset:])[0] == 204
        assert stored_in(holder) == [hashlib.sha256(data).hexdigest()]
        delete_all(other)
    p99 = quantiles(seconds, n=100, method="inclusive")[-1]
    print(f"median {median(seconds):.3f}, p99 {p99:.3f}, max {max(seconds):.3f}")  # noqa: T201


@pytest.mark.parametrize("client", CLIENTS)
def test_an_upload_goes_on_at_another_replica(
    client: str, replicas: Replicas, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    class Fixtures(dict[str, Any]):
        __missing__ = staticmethod(request.getfixturevalue)

    command = [word.format_map(Fixtures()) for word in CLIENTS[client].split()]
    (tmp_path / "memory").mkdir()
    seed = secrets.randbits(32)
    print("seed", seed)  # noqa: T201  # pytest shows it with a failure.
    chance = random.Random(seed)  # noqa: S311
    for number in range(KILLS):
        size = chance.randrange(*SIZES)
        file = tmp_path / f"{number}.bin"
        file.write_bytes(hashlib.shake_128(f"{client} {seed} {number}".encode()).digest(size))
        run = [*command, replicas.line.url, str(file), str(tmp_path / "memory")]
        with (
            half_an_upload(replicas.ports[0]),
            killed_at(replicas, replicas.line.carried + chance.randrange(size)),
        ):
            end = time.monotonic() + PATIENCE
            while subprocess.run(run, timeout=PATIENCE, check=False).returncode:
                assert client == "tuspy"
                assert time.monotonic() < end
        for port in replicas.ports:
            assert stored_in(port) == [sha256_of(file.open("rb"))]
        delete_all(replicas.ports[-1])
    # This also covers the uploads of the tests above.
    end = time.monotonic() + PATIENCE
    while left := replicas.left():
        assert time.monotonic() < end, left
        time.sleep(0.5)


@contextmanager
def receiving(port: int, path: str, data: bytes, length: int) -> Iterator[None]:
    """Let a service receive an upload, until it closes the connection."""
    fields = {**APPEND, "Upload-Offset": "0", "Content-Length": str(length)}

    def send(connection: socket.socket) -> None:
        with suppress(OSError):  # The service has closed the connection.
            for start in range(0, len(data), 1 << 16):
                connection.sendall(data[start : start + (1 << 16)])

    with begun(port, "PATCH", path, fields) as connection:
        sending = Thread(target=send, args=[connection])
        sending.start()
        yield
        sending.join()


@contextmanager
def begun(port: int, method: str, path: str, fields: dict[str, str]) -> Iterator[socket.socket]:
    """Begin a request; yield the connection as soon as the service reads the body."""
    fields = {"Host": f"127.0.0.1:{port}", "Expect": "100-continue", **fields}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        yield connection


@contextmanager
def killed_at(replicas: Replicas, carried: int) -> Iterator[None]:
    """Kill the replica that receives connections after this number of bytes."""

    def kill() -> None:
        end = time.monotonic() + PATIENCE
        while replicas.line.carried < carried and time.monotonic() < end:
            time.sleep(0.0005)
        replicas.kill()

    thread = Thread(target=kill)
    thread.start()
    yield
    thread.join()
    replicas.wait()


@contextmanager
def half_an_upload(port: int) -> Iterator[None]:
    """Send half of a file, in a request that cannot be resumed."""
    with begun(port, "POST", "/files", {"Content-Length": str(24 << 20)}) as connection:
        connection.sendall(bytes(12 << 20))
        yield


def delete_all(port: int) -> None:
    """Delete all files."""
    for record in map(json.loads, ask(port, "GET", "/files")[2].splitlines()):
        if "id" in record:
            ask(port, "DELETE", f"/files/{record['id']}")


def ask(
    port: int, method: str, path: str, fields: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, HTTPMessage, bytes]:
    """Send a request; return the status, the headers and the body of the response."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request(method, path, body or None, fields or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
