"""Two replicas of a generated service on one S3 server and one Redis, with one address."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from baking import Project
from environment import Environment
from line import Line
from running import RUNNING, Running, redis_server, started

#: The credentials that the S3 servers of the tests accept.
AWS = {
    "AWS_ACCESS_KEY_ID": "admin",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
#: Prints the keys of all objects and multipart uploads of a bucket.
LIST = """
import json, sys
from botocore.session import Session
client = Session().create_client("s3", endpoint_url=sys.argv[1])
pages = client.get_paginator("list_objects_v2").paginate(Bucket="replicas")
keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
uploads = client.list_multipart_uploads(Bucket="replicas").get("Uploads", [])
json.dump(keys + [each["Key"] for each in uploads], sys.stdout)
"""
MAKE = """
import sys, time
from botocore.session import Session
client = Session().create_client("s3", endpoint_url=sys.argv[1])
for _ in range(600):
    try:
        client.create_bucket(Bucket="replicas")
        client.put_object(Bucket="replicas", Key="ready", Body=b"")
        break
    except Exception:
        time.sleep(0.1)
client.delete_object(Bucket="replicas", Key="ready")
"""


class Replicas:
    """Replicas, of which one receives all connections of `line`."""

    def __init__(
        self,
        project: Project,
        environment: Environment,
        folder: Path,
        redis: int,
        s3: str,
        **settings: str,
    ) -> None:
        self.s3 = s3
        self._project, self._environment, self._folder = project, environment, folder
        self._settings = {
            "STORAGE__URL": "s3://replicas/some/prefix",
            "STORAGE__ENDPOINT_URL": s3,
            "STORAGE__REDIS_URL": f"redis://127.0.0.1:{redis}/0",
            "STORAGE__SWEEP_INTERVAL": "1 s",
            "REALTIME__BROKER_URL": f"redis://127.0.0.1:{redis}/0",
            # A client whose first request has failed does not know that an upload was created.
            "UPLOAD__EXPIRE_AFTER": "30 s",
            "UPLOAD__INTERIM_RESPONSES": "true",
            **settings,
        }
        self._stack = ExitStack()
        self._replicas: list[Running] = []
        self._count = 0
        self._starting: Thread | None = None

    def __enter__(self) -> Self:
        for _ in range(2):
            self._start()
        self.line = self._stack.enter_context(Line(self._replicas[0].port))
        self.line.carry_until(sys.maxsize)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._starting:
            self._starting.join()
        self._stack.__exit__(kind, error, trace)

    @property
    def ports(self) -> list[int]:
        return [each.port for each in self._replicas]

    @property
    def logs(self) -> list[list[str]]:
        """The lines of each replica so far."""
        return [each.log for each in self._replicas]

    def kill(self) -> None:
        """Kill the replica that receives connections, and let the other one receive them.

        Another replica is started in its place.
        """
        self.wait()
        dying, living = self._replicas
        dying.process.kill()
        dying.process.wait()
        self._replicas = [living]
        self.line.service_port = living.port
        self.line.cut()
        self._starting = Thread(target=self._start)
        self._starting.start()

    def wait(self) -> None:
        """Wait until the replacement of a killed replica has started."""
        if self._starting:
            self._starting.join()
        assert len(self._replicas) == 2

    def left(self) -> set[str]:
        """Return the keys of all bytes of files and uploads, complete or not."""
        done = subprocess.run(
            [self._environment.python, "-c", LIST, self.s3], stdout=subprocess.PIPE, check=True
        )
        kinds = ("some/prefix/files/", "some/prefix/pieces/", "some/prefix/quarantine/")
        return {key for key in json.loads(done.stdout) if key.startswith(kinds)}

    def _start(self) -> None:
        self._count += 1
        folder = self._folder / f"replica-{self._count}"
        folder.mkdir()
        service = started(self._project, self._environment, folder, RUNNING, **self._settings)
        self._replicas.append(self._stack.enter_context(service))


@contextmanager
def s3_server(project: Project, environment: Environment, name: str) -> Iterator[str]:
    """Run an S3 server with a bucket; yield its address."""
    program = project.path / "tests" / "engine" / "objects" / "server_process.py"
    with subprocess.Popen(
        [environment.python, program, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        subprocess.run([environment.python, "-c", MAKE, url], check=True)
        yield url
        process.stdin.close()


@contextmanager
def two_replicas(
    project: Project,
    environment: Environment,
    folder: Path,
    server: str = "seaweedfs",
    **settings: str,
) -> Iterator[Replicas]:
    """Run two replicas, an S3 server and Redis; AWS's credentials must be in the environment."""
    with (
        redis_server(folder) as redis,
        s3_server(project, environment, server) as s3,
        Replicas(project, environment, folder, redis, s3, **settings) as replicas,
    ):
        yield replicas
