"""Run the servers of compose files as processes, with the commands of their containers."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml

from baking import Project
from environment import Environment
from running import free_port
from tools import program

REPLICAS = "compose.replicas.yaml"
REQUIRED = re.compile(r"\$\{(?:REDIS|S3)_PASSWORD:\?[^${}]+\}")
#: Maximum seconds until a server is healthy.
PATIENCE = 60
#: The ports of the parts of the S3 server that have none in the file.
PARTS = [
    f"{part}.port{kind}"
    for part in ("s3", "master", "volume", "filer", "admin")
    for kind in ("", ".grpc")
][1:]


def services_of(project: Project, file: str = "compose.yaml") -> dict[str, Any]:
    """Return the containers of a file, by name."""
    text = (project.path / file).read_text("utf-8")
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


#: Waits until an S3 server has a bucket, which it creates after it is healthy.
WAIT = """
import sys, time, botocore.session
client = botocore.session.get_session().create_client("s3", endpoint_url=sys.argv[1])
while sys.argv[2] not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
    time.sleep(0.1)
"""


@contextmanager
def s3_server(
    project: Project, environment: Environment, folder: Path, secret: str
) -> Iterator[int]:
    """Run the S3 server of the replicas with this password; yield its port."""
    container = services_of(project, REPLICAS)["s3"]
    (entry,) = container["entrypoint"]
    weed = program(Path(entry).name, path=str(environment.python.parent))
    port = free_port()
    ours = {
        "-dir=/objects": f"-dir={folder}",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
        "-s3.port=8333": f"-s3.port={port}",
    }
    assert ours.keys() <= {*container["command"]}
    command = [weed, *(ours.get(word, word) for word in container["command"])]
    command += [f"-{part}={free_port()}" for part in PARTS]
    variables = {k: REQUIRED.sub(secret, v) for k, v in container["environment"].items()}
    env = {**os.environ, "HOME": str(folder), **variables}
    *_, url = container["healthcheck"]["test"]
    with subprocess.Popen(command, env=env, stdout=-3, stderr=-3) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while status_of(port, url.removeprefix("http://127.0.0.1:8333")) != 200:
                assert process.poll() is None, "the S3 server has ended"
                assert time.monotonic() < deadline, "the S3 server does not start"
                time.sleep(0.05)
            (bucket,) = (word[8:] for word in command if word.startswith("-bucket="))
            wait = [environment.python, "-c", WAIT, f"http://127.0.0.1:{port}", bucket]
            region = {"AWS_DEFAULT_REGION": "us-east-1"}
            subprocess.run(wait, env=env | region, timeout=PATIENCE, check=True)
            yield port
        finally:
            process.kill()


def status_of(port: int, path: str) -> int:
    """Return the status of a response, or 0 while there is no server."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
