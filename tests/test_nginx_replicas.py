"""Two replicas behind nginx: none of their clients notices that one dies, or that both restart."""

import hashlib
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import pytest

from baking import Project
from compose import REPLICAS, REQUIRED, s3_server, services_of
from downloads import SOAK, Stored, sha256_of, store
from environment import Environment
from nginx import nginx_before
from running import RUNNING, free_port, redis_server, started
from silent import PacedLine
from tools import program

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

    assert seen == [method] * sent


def test_a_request_goes_to_another_replica_if_one_does_not_listen(
    tmp_path: Path,
) -> None:
    seen = ["an earlier request"]
    with (
        Upstream(seen) as one,
        nginx_before(tmp_path, tmp_path, free_port(), one.port) as port,
    ):
        statuses = [ask(port, method, "/", b"x")[0] for method in ["POST", "PATCH"] * 5]

    assert statuses == [204] * 10
    assert seen[1:] == ["POST", "PATCH"] * 5


class Replica:
    """A process of the service, on the same port after each restart."""

    def __init__(
        self,
        project: Project,
        environment: Environment,
        folder: Path,
        port: int,
        settings: Mapping[str, str],
    ) -> None:
        self.port = port
        chosen = {**settings, "SERVER__PORT": str(port)}
        self._run = partial(started, project, environment, folder, RUNNING, **chosen)
        self._stack = ExitStack()
        self.start()

    def start(self) -> None:
        self.service = self._stack.enter_context(self._run())

    def stop(self) -> None:
        """Send SIGTERM, and wait for the end of the process."""
        self._stack.close()


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
        """Repeat a request with the same key until it succeeds, as publishers should."""
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


@contextmanager
def following(url: str, node: str, scripts: Path) -> Iterator[list[Any]]:
    """Follow a topic with real clients; the list contains their output after they have ended."""
    words = [str(scripts / "follow_many.mjs"), url, str(SUBSCRIBERS)]
    output: list[Any] = []
    with subprocess.Popen([node, *words], stdout=-1, stderr=-1, encoding="utf-8") as client:
        try:
            assert client.stderr is not None
            assert client.stderr.readline() == "all have subscribed\n"
            yield output
            printed, _ = client.communicate(timeout=PATIENCE)
            output.append(json.loads(printed))
        finally:
            client.kill()


def differences(ids: list[str], published: list[str]) -> list[str]:
    """Return the events that a client has not received, has received twice, or did not expect."""
    missing = [each for each in published if each not in ids]
    return missing + [each for each in ids if each not in published or ids.count(each) > 1]


@pytest.mark.long
@pytest.mark.parametrize("run", range(RUNS))
def test_a_rolling_restart_disturbs_no_client(
    run: int,
    storage: dict[str, str],
    full: Project,
    environment: Environment,
    scripts: Path,
    node: str,
    tmp_path: Path,
) -> None:
    source = tmp_path / "source"
    source.write_bytes(hashlib.shake_128(b"source %d" % run).digest(SIZE))
    with ExitStack() as stack:
        replicas = stack.enter_context(replicas_of(full, environment, tmp_path, **storage))
        port = stack.enter_context(in_front_of(tmp_path, *replicas))
        up = stack.enter_context(PacedLine(port, rate=RATE))
        down = stack.enter_context(PacedLine(port, rate=RATE, down=True))
        stored = store(port, source)
        topic = f"http://127.0.0.1:{port}/topics/news/events"
        followed = stack.enter_context(following(topic, node, scripts))
        with (
            uploading(up.url, node, scripts, tmp_path) as digests,
            downloading(down.url, stored, tmp_path),
            Publisher(port, "news") as publisher,
        ):
            for line, count in ((up, UPLOADS), (down, DOWNLOADS)):
                wait_until(partial(has_carried, line, count * BEFORE))
                line.rate = SLOW_RATE
            for replica in replicas:
                replica.stop()
                replica.start()
                wait_for_requests_at(replica, port)
            assert up.carried < UPLOADS * SIZE
            assert down.carried < DOWNLOADS * SIZE
            up.rate = down.rate = RATE
        publisher.publish("end")
        found = sorted(stored_at(port))

    assert found == sorted([*digests, stored.digest])
    (output,) = followed
    wrong = [differences(ids, publisher.ids) for ids, _ in output["received"]]
    assert [each for each in wrong if each] == []
    assert output["received"] == [[publisher.ids, SUBSCRIBERS]]
    assert output["reconnected"] >= SUBSCRIBERS
