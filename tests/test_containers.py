"""The containers of `compose.yaml` have no more rights than needed, and its Redis has a password.

No container runs here: the commands of its Redis are run with the one that is installed.
"""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from answers import only
from baking import Bake, Project
from environment import Environment
from running import running
from tools import program

REQUIRED = re.compile(r"\$\{REDIS_PASSWORD:\?[^${}]+\}")
SECRET = "0123456789abcdef"  # noqa: S105


@pytest.fixture(
    params=[
        {},
        {"broker": "redis"},
        only("use_realtime") | {"broker": "redis"},
        only("use_upload"),
        only("use_error_handling"),
    ],
    ids=["memory", "redis", "realtime", "upload", "errors"],
)
def project(request: pytest.FixtureRequest, bake_once: Bake) -> Project:
    return bake_once(**request.param)


def services_of(project: Project) -> dict[str, Any]:
    text = (project.path / "compose.yaml").read_text("utf-8")
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


@pytest.fixture
def redis(full: Project) -> dict[str, Any]:
    """The container of Redis."""
    found: dict[str, Any] = services_of(full)["redis"]
    return found


@pytest.mark.fault("G42")
def test_a_container_has_few_rights_and_limits(project: Project) -> None:
    for service in services_of(project).values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert not {"cap_add", "privileged"} & service.keys()
        assert service["healthcheck"]["interval"]
        assert service["mem_limit"]
        assert service["pids_limit"]


@pytest.mark.fault("G42")
def test_the_password_of_redis_has_no_default(full: Project, redis: dict[str, Any]) -> None:
    app = services_of(full)["app"]["environment"]["APP_REALTIME__BROKER_URL"]
    password = redis["command"][redis["command"].index("--requirepass") + 1]

    assert REQUIRED.fullmatch(password)
    assert REQUIRED.sub("secret", app) == "redis://:secret@redis:6379/0"
    assert "ports" not in redis
    assert redis["user"] == "redis"


@pytest.fixture
def port(redis: dict[str, Any], tmp_path: Path) -> Iterator[int]:
    """The port of a Redis with the command of its container."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        found: int = free.getsockname()[1]
    command = [REQUIRED.sub(SECRET, word) for word in redis["command"]]
    own = ["--port", str(found), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    command[0] = program("redis-server", "valkey-server")
    with subprocess.Popen([*command, *own], stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert any("Ready to accept connections" in line for line in process.stdout)
        yield found
        process.terminate()


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
