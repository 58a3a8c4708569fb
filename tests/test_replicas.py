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
from environment import Environment
from replicas import AWS, Replicas, two_replicas
from test_upload_clients import PATIENCE, python, sha256_of, stored_in  # noqa: F401

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


@pytest.fixture(scope="module")
def replicas(
    full: Project, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS.items():
            patch.setenv(name, value)
        with two_replicas(full, environment, tmp_path_factory.mktemp("replicas")) as both:
            yield both


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
    end = time.monotonic() + PATIENCE
    while left := replicas.left():
        assert time.monotonic() < end, left
        time.sleep(0.5)


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
    head = f"POST /files HTTP/1.1\r\nHost: x\r\nContent-Length: {24 << 20}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + bytes(12 << 20))
        yield


def delete_all(port: int) -> None:
    """Delete all files."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/files")
        lines = connection.getresponse().read().splitlines()
        for record in map(json.loads, lines):
            if "id" in record:
                connection.request("DELETE", f"/files/{record['id']}")
                connection.getresponse().read()
