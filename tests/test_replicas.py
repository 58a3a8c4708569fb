"""An upload continues at another replica after the one that received it was killed."""

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
from test_upload_clients import PATIENCE, python, sha256_of, stored_in  # noqa: F401

#: Maximum seconds to wait on a busy machine.
PATIENCE = 120
MIB = 1 << 20
SECRET = "0123456789abcdef"  # noqa: S105

SOAK = int(os.environ.get("SOAK", "1"))
#: Commands, with fixtures in braces; the arguments are the service, a file, and a folder. The
#: clients continue by themselves, except for tuspy, which is started again.
CLIENTS = {
    "tus-js-client": "{node} {scripts}/tus_js.mjs tus-newest tus-v1 1",
    "tuspy": "{python} {scripts}/tuspy_client.py",
    "draft": "{python} {scripts}/draft_client.py",
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
def half_an_upload(port: int) -> Iterator[None]:
    """Send half of a file, in a request that cannot be resumed."""
    head = f"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: {24 << 20}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + bytes(12 << 20))
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
