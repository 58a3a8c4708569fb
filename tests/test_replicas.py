"""Two replicas behind nginx: none of their clients notices that one dies, or that both restart."""

import hashlib
import json
import os
import random
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from baking import Project
from compose import REPLICAS, REQUIRED, s3_server, services_of
from downloads import SOAK, Stored, sha256_of, store
from environment import Environment
from replicas import AWS, Replicas, two_replicas
from test_upload_clients import PATIENCE, sha256_of, stored_in

#: Maximum seconds to wait on a busy machine.
PATIENCE = 120
MIB = 1 << 20
SECRET = "0123456789abcdef"  # noqa: S105

#: How often both replicas are restarted, and the clients of each time.
RUNS, UPLOADS, DOWNLOADS, SUBSCRIBERS = (1, 3, 3, 20) if SOAK == 1 else (10, 20, 20, 200)
#: The bytes of each transfer, and of them those before the restarts: more than a part in S3.
SIZE, BEFORE = 24 * MIB, 8 * MIB
#: Bytes per second of a transfer, and during the restarts, so that they end before it.
RATE, SLOW_RATE = 4 * MIB, MIB // 16
#: Uploads of one process of a client, at once.
AT_ONCE = 5

#: Commands of the clients that upload, each with the folder of its files.
UPLOADING = ["tus-v4 tus-v1", "tus-newest tus-v1", "tus-newest ietf-draft-05"]
#: Commands of the clients that download. None of their options is about a restart.
DOWNLOADING = {
    "wget": "wget --no-verbose --continue --output-document={saved} {url}",
    "curl": "curl --silent --show-error --fail --retry 5 --retry-all-errors --output {saved} {url}",
}


class Upstream:
    """A server that drops the connection of its first request, in the middle of the body."""

    def __init__(self, seen: list[str], port: int = 0) -> None:
        self._seen = seen
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._thread = Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._seen.append(connection.recv(1 << 16).split()[0].decode())
                if len(self._seen) > 1:
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "body", "status", "sent"),
    [
        ("GET", b"", 204, 2),
        ("POST", b"", 502, 1),
        ("POST", b"x", 502, 1),
        ("POST", b"x" * MIB, 502, 1),
        ("PATCH", b"x" * MIB, 502, 1),
        ("PUT", b"x" * MIB, 502, 1),
    ],
    ids=["get", "post nothing", "post", "post much", "patch", "put"],
)
def test_a_request_is_repeated_only_if_it_changes_nothing(
    method: str, body: bytes, status: int, sent: int, tmp_path: Path
) -> None:
    seen: list[str] = []
    with (
        Upstream(seen) as one,
        Upstream(seen) as other,
        nginx_before(tmp_path, tmp_path, one.port, other.port) as port,
    ):
        assert ask(port, method, "/", body)[0] == status

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
    end = time.monotonic() + PATIENCE
    while left := replicas.left():
        assert time.monotonic() < end, left
        time.sleep(0.5)


@contextmanager
def replicas_of(
    project: Project, environment: Environment, folder: Path, **settings: str
) -> Iterator[list[Replica]]:
    """Run two replicas that share a Redis."""
    (folder / "redis").mkdir()
    with redis_server(folder / "redis") as redis, ExitStack() as stack:
        shared = {
            "REALTIME__BROKER_URL": f"redis://127.0.0.1:{redis}/0",
            "REALTIME__RETRY": "500 ms",
            "SERVER__TRUSTED_PROXIES": "127.0.0.1",
            # A transfer lasts longer, so that it is cut.
            "SERVER__DRAIN_TIMEOUT": "1 s",
            **settings,
        }
        replicas = []
        for name in ("one", "other"):
            (folder / name).mkdir()
            where = project, environment, folder / name
            replicas.append(Replica(*where, free_port(), shared))
            stack.callback(replicas[-1].stop)
        yield replicas


@pytest.fixture(params=["local", "s3"])
def storage(
    request: pytest.FixtureRequest,
    full: Project,
    environment: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, str]]:
    """The settings of replicas that share a directory or a bucket."""
    (tmp_path / "data").mkdir()
    if request.param == "local":
        yield {"STORAGE__URL": f"file:{tmp_path / 'data'}"}
        return
    settings = services_of(full, REPLICAS)["app-1"]["environment"]
    with s3_server(full, environment, tmp_path / "data", SECRET) as port:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, REQUIRED.sub(SECRET, settings[name]))
        address = settings["APP_STORAGE__ENDPOINT_URL"].replace("s3:8333", f"127.0.0.1:{port}")
        yield {
            "STORAGE__URL": settings["APP_STORAGE__URL"],
            "STORAGE__ENDPOINT_URL": address,
        }


@contextmanager
def in_front_of(folder: Path, *replicas: Replica) -> Iterator[int]:
    """Run nginx in front of the replicas; yield its port."""
    (folder / "nginx").mkdir()
    with nginx_before(folder / "nginx", folder, *(each.port for each in replicas)) as port:
        yield port


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_carried(line: PacedLine, size: int) -> bool:
    return line.carried >= size


def wait_for_requests_at(replica: Replica, port: int) -> None:
    """Send requests to nginx until a replica that was restarted gets one of them."""

    def arrives() -> bool:
        assert ask(port, "GET", "/topics/probe/events?poll=0")[0] == 200
        return any("/topics/probe" in line for line in replica.service.log)

    wait_until(arrives)


def stored_at(port: int) -> Iterator[str]:
    """Yield the digest of each stored file."""
    *lines, _ = ask(port, "GET", "/files")[1].splitlines()
    for line in lines:
        status, body = ask(port, "GET", f"/files/{json.loads(line)['id']}")
        assert status == 200
        yield hashlib.sha256(body).hexdigest()


def ask(
    port: int, method: str, path: str, body: bytes = b"", fields: dict[str, str] | None = None
) -> tuple[int, bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request(method, path, body or None, fields or {})
        response = connection.getresponse()
        return response.status, response.read()


def test_a_replica_that_is_killed_is_left_out_at_once(
    storage: dict[str, str], full: Project, environment: Environment, tmp_path: Path
) -> None:
    with (
        replicas_of(full, environment, tmp_path, **storage) as (one, other),
        in_front_of(tmp_path, one, other) as port,
    ):
        before = [ask(port, "POST", "/files", b"x")[0] for _ in range(4)]
        one.service.process.kill()
        one.service.process.wait()
        after = [ask(port, "POST", "/files", b"x")[0] for _ in range(20)]
        one.stop()
        one.start()
        wait_for_requests_at(one, port)

        assert len(ask(other.port, "GET", "/files")[1].splitlines()) == 24 + 1

    assert before + after == [201] * 24


class Publisher:
    """Publish numbered events through nginx until it is stopped, each exactly once."""

    def __init__(self, port: int, topic: str) -> None:
        self.ids: list[str] = []
        self.repeated = 0
        self._port, self._path = port, f"/topics/{topic}/events"
        self._stopped = Event()
        self._thread = Thread(target=self._publish_all)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def publish(self, text: str) -> None:
        """Repeat a request with the same key until it succeeds, as its documentation says."""
        fields = {"Content-Type": "text/plain", "Idempotency-Key": f'"{text}"'}
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                status, body = ask(self._port, "POST", self._path, text.encode(), fields)
            except (OSError, HTTPException):
                status = 0
            if status == 202:
                self.ids.append(json.loads(body)["id"])
                return
            self.repeated += 1
            assert time.monotonic() < deadline, status

    def _publish_all(self) -> None:
        while not self._stopped.wait(0.02):
            self.publish(str(len(self.ids)))


@contextmanager
def uploading(url: str, node: str, scripts: Path, folder: Path) -> Iterator[list[str]]:
    """Upload files with real clients; yield their digests, and wait for the clients."""
    digests, clients = [], []
    for first in range(0, UPLOADS, AT_ONCE):
        files = folder / f"files-{first}"
        files.mkdir()
        for number in range(first, min(first + AT_ONCE, UPLOADS)):
            data = hashlib.shake_128(b"%d" % number).digest(SIZE)
            digests.append(hashlib.sha256(data).hexdigest())
            (files / f"{number}.bin").write_bytes(data)
        package, protocol = UPLOADING[first // AT_ONCE % len(UPLOADING)].split()
        state = folder / f"state-{first}"
        state.mkdir()
        words = [str(scripts / "tus_js.mjs"), package, protocol, "1", url, str(files), str(state)]
        clients.append(subprocess.Popen([node, *words]))
    try:
        yield digests
        for client in clients:
            assert client.wait(PATIENCE) == 0, "an upload has failed"
    finally:
        for client in clients:
            client.kill()
            client.wait()


@contextmanager
def downloading(url: str, stored: Stored, folder: Path) -> Iterator[None]:
    """Download a file with real clients; wait for them, and compare the bytes."""
    saved, clients = [], []
    for number in range(DOWNLOADS):
        name, *words = list(DOWNLOADING.values())[number % len(DOWNLOADING)].split()
        saved.append(folder / f"saved-{number}")
        words = [word.format(saved=saved[-1], url=f"{url}/files/{stored.id}") for word in words]
        clients.append(subprocess.Popen([program(name), *words]))
    try:
        yield
        for client in clients:
            assert client.wait(PATIENCE) == 0, "a download has failed"
    finally:
        for client in clients:
            client.kill()
            client.wait()
    assert [sha256_of(each.open("rb")) for each in saved] == [stored.digest] * DOWNLOADS


def delete_all(port: int) -> None:
    """Delete all files."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/files")
        lines = connection.getresponse().read().splitlines()
        for record in map(json.loads, lines):
            if "id" in record:
                connection.request("DELETE", f"/files/{record['id']}")
                connection.getresponse().read()
