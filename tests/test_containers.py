"""Containers have no more rights than needed, and their Redis and S3 server have passwords.

No container runs here: the commands of the two are run with those that are installed.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from answers import only
from baking import Bake, Project
from compose import REQUIRED, s3_server, services_of, status_of
from environment import Environment
from running import free_port, running
from tools import program

SECRET = "0123456789abcdef"  # noqa: S105
FILES = ["compose.yaml", "compose.replicas.yaml"]


@pytest.fixture(
    params=[
        {},
        {"broker": "redis"},
        {"broker": "redis", "storage": "s3"},
        only("use_realtime") | {"broker": "redis"},
        only("use_upload"),
        only("use_upload") | {"storage": "s3"},
        only("use_error_handling"),
    ],
    ids=["memory", "redis", "s3", "realtime", "upload", "upload s3", "errors"],
)
def project(request: pytest.FixtureRequest, bake_once: Bake) -> Project:
    return bake_once(**request.param)


@pytest.fixture(params=FILES)
def services(request: pytest.FixtureRequest, full: Project) -> dict[str, Any]:
    """The containers of a file."""
    return services_of(full, request.param)


@pytest.fixture
def redis(services: dict[str, Any]) -> dict[str, Any]:
    """The container of Redis."""
    found: dict[str, Any] = services["redis"]
    return found


@pytest.mark.fault("G42")
def test_a_container_has_few_rights_and_limits(project: Project) -> None:
    files = [file for file in FILES if (project.path / file).exists()]
    for service in [each for file in files for each in services_of(project, file).values()]:
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert not {"cap_add", "privileged"} & service.keys()
        assert service["healthcheck"]["interval"]
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert service["restart"] == "unless-stopped"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.fault("G42")
def test_the_password_of_redis_has_no_default(
    services: dict[str, Any], redis: dict[str, Any]
) -> None:
    apps = [each for name, each in services.items() if name.startswith("app")]
    password = redis["command"][redis["command"].index("--requirepass") + 1]

    assert REQUIRED.fullmatch(password)
    for app in apps:
        url = app["environment"]["APP_REALTIME__BROKER_URL"]
        assert REQUIRED.sub("secret", url) == "redis://:secret@redis:6379/0"
    assert "ports" not in redis
    assert redis["user"] == "redis"


def test_replicas_are_alike_and_only_nginx_is_published(bake_once: Bake) -> None:
    services = services_of(bake_once(broker="redis", storage="s3"), "compose.replicas.yaml")
    one, other = services["app-1"], services["app-2"]
    s3 = services["s3"]

    assert one == other
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    assert {"app-1", "app-2"} == services["nginx"]["depends_on"].keys()
    # Temporary files of uploads are on a disk: in memory they would count as memory of the replica.
    assert (one["tmpfs"], one["volumes"]) == ([], ["/tmp"])  # noqa: S108
    for container in (one, s3):
        assert REQUIRED.fullmatch(container["environment"]["AWS_SECRET_ACCESS_KEY"])
        assert container["environment"]["AWS_ACCESS_KEY_ID"] == "service"


@pytest.mark.parametrize("answers", [{"broker": "redis"}, only("use_upload")], ids=str)
def test_every_replica_has_the_same_redis(answers: dict[str, Any], bake_once: Bake) -> None:
    environment = services_of(bake_once(**answers, storage="s3"), "compose.replicas.yaml")["app-1"][
        "environment"
    ]
    urls = {k: v for k, v in environment.items() if "@redis:" in v}

    realtime = answers.get("use_realtime", True)
    name = "APP_REALTIME__BROKER_URL" if realtime else "APP_STORAGE__REDIS_URL"
    assert urls.keys() == {name}


@pytest.mark.parametrize(
    ("answers", "generated"),
    [
        ({"storage": "s3", "broker": "redis"}, True),
        ({"storage": "s3", "broker": "memory"}, False),
        ({"storage": "s3", "broker": "redis", "use_docker": False}, False),
        ({"storage": "local", "broker": "redis"}, False),
        (only("use_download") | {"storage": "s3"}, True),
        (only("use_realtime") | {"storage": "s3", "broker": "redis"}, False),
    ],
    ids=str,
)
def test_a_project_has_replicas_if_they_share_everything(
    answers: dict[str, Any], generated: bool, bake_once: Bake
) -> None:
    project = bake_once(**answers)
    balanced = "app-1:8000" in (project.path / "deploy/nginx.conf").read_text("utf-8")

    assert (project.path / "compose.replicas.yaml").exists() is generated
    assert balanced is generated


@pytest.fixture
def port(redis: dict[str, Any], tmp_path: Path) -> Iterator[int]:
    """The port of a Redis with the command of its container."""
    found = free_port()
    command = [REQUIRED.sub(SECRET, word) for word in redis["command"]]
    own = ["--port", str(found), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    command[0] = program("redis-server", "valkey-server")
    with subprocess.Popen([*command, *own], stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert any("Ready to accept connections" in line for line in process.stdout)
        yield found
        process.terminate()


@pytest.fixture
def s3(full: Project, environment: Environment, tmp_path: Path) -> Iterator[int]:
    """The port of the S3 server of the replicas."""
    with s3_server(full, environment, tmp_path, SECRET) as port:
        yield port


#: Stores an object in a bucket of an S3 server.
PUT = """
import sys, botocore.session
client = botocore.session.get_session().create_client("s3", endpoint_url=sys.argv[1])
client.put_object(Bucket=sys.argv[2], Key="key", Body=b"1", IfNoneMatch="*")
"""


def test_the_s3_server_serves_the_bucket_of_the_replicas_only_with_the_password(
    s3: int, full: Project, environment: Environment
) -> None:
    variables = services_of(full, "compose.replicas.yaml")["app-1"]["environment"]
    bucket = variables["APP_STORAGE__URL"].removeprefix("s3://")
    put = [environment.python, "-c", PUT, f"http://127.0.0.1:{s3}", bucket]
    codes = [
        subprocess.run(
            put, env={**os.environ, **variables, "AWS_SECRET_ACCESS_KEY": secret}, check=False
        ).returncode
        for secret in ("another", SECRET)
    ]

    assert status_of(s3, f"/{bucket}/key") == 403
    assert codes == [1, 0]


@pytest.mark.fault("G42")
def test_redis_is_healthy_and_serves_only_with_the_password(
    port: int, redis: dict[str, Any], full: Project, environment: Environment, tmp_path: Path
) -> None:
    kind, name, *arguments = redis["healthcheck"]["test"]
    check = [program(name), "-p", str(port), *arguments]
    codes = [
        subprocess.run(check, env={**os.environ, **variables}, check=False).returncode
        for variables in ({"REDISCLI_AUTH": SECRET}, {})
    ]
    settings = {"REALTIME__BROKER_URL": f"redis://:{SECRET}@127.0.0.1:{port}/0"}
    with running(full, environment, tmp_path, **settings) as own:
        assert published(own) == 202

    assert kind == "CMD"
    assert codes[0] == 0
    assert codes[1] != 0


@pytest.mark.fault("G42")
def test_the_permissions_in_the_documentation_are_enough(
    port: int, full: Project, environment: Environment, tmp_path: Path
) -> None:
    page = (full.path / "docs/operations.md").read_text("utf-8")
    [rules] = re.findall(r"service's user in Redis needs `(.+?)`", page)
    cli = [program("redis-cli"), "-p", str(port), "-a", SECRET, "--no-auth-warning"]
    subprocess.run([*cli, "ACL", "SETUSER", "app", "on", ">pw", *rules.split()], check=True)
    settings = {"REALTIME__BROKER_URL": f"redis://app:pw@127.0.0.1:{port}/0"}
    with running(full, environment, tmp_path, **settings) as own:
        assert published(own) == 202


def published(port: int) -> int:
    """Publish an event, and return the status of the response."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        body, headers = b"1", {"Content-Type": "application/json"}
        connection.request("POST", "/topics/news/events", body, headers)
        return connection.getresponse().status
