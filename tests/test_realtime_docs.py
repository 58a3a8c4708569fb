"""The code of docs/realtime.md works, and its JSON Schemas describe the messages of a WebSocket."""

import json
import re
import subprocess
from contextlib import closing
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from answers import REPOSITORY
from baking import TEMPLATE_FOLDER, Project
from dropping import DroppingLine
from environment import Environment
from running import running
from tools import run

PAGE = (REPOSITORY / TEMPLATE_FOLDER / "docs/realtime.md").read_text("utf-8")
CLIENT = Path(__file__).parent / "clients" / "websocket_frames.py"


def schema(title: str) -> dict[str, Any]:
    """Return the schema of the page with a title."""
    found = map(json.loads, re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    (one,) = [each for each in found if each["title"] == title]
    return dict(one)


@pytest.fixture(scope="module")
def conversation(
    full: Project, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, Any]]:
    """The messages of a client and of the service, with their kinds."""
    folder = tmp_path_factory.mktemp("service")
    with running(full, environment, folder, REALTIME__MAX_REPLAY="1") as port:
        url = f"ws://127.0.0.1:{port}/topics/news/ws"
        done = environment.run(full, "python", str(CLIENT), url)
    assert done.returncode == 0
    return [(kind, value) for kind, value in map(json.loads, done.stdout.splitlines())]


def refused(title: str, values: list[Any], folder: Path) -> list[Any]:
    """Return the values that do not match the schema of the page with a title."""
    against = folder / "schema.json"
    against.write_text(json.dumps(schema(title)), "utf-8")
    files = {str(folder / f"{number}.json"): value for number, value in enumerate(values)}
    for name, value in files.items():
        Path(name).write_text(json.dumps(value), "utf-8")
    done = run("check-jsonschema", "--output-format=json", f"--schemafile={against}", *files)
    report = json.loads(done.output)
    assert report.get("parse_errors", []) == []
    names = {error["filename"] for error in report["errors"]}
    return [value for name, value in files.items() if name in names]


def test_the_schema_of_frames_describes_all_kinds_of_frames(
    conversation: list[tuple[str, Any]], tmp_path: Path
) -> None:
    frames = [value for kind, value in conversation if kind == "frame"]
    kinds = {each["properties"]["type"]["const"] for each in schema("Frame")["oneOf"]}

    assert refused("Frame", frames, tmp_path) == []
    assert {frame["type"] for frame in frames} == kinds


def test_the_schema_of_frames_refuses_incomplete_frames(
    conversation: list[tuple[str, Any]], tmp_path: Path
) -> None:
    incomplete = [
        {name: member for name, member in value.items() if name != missing}
        for kind, value in conversation
        for missing in value
        if kind == "frame" and missing != "ref"
    ]

    assert refused("Frame", incomplete, tmp_path) == incomplete


def test_the_schema_of_commands_agrees_with_the_service(
    conversation: list[tuple[str, Any]], tmp_path: Path
) -> None:
    sent = [value for kind, value in conversation if kind in ("command", "invalid")]
    rejected = [
        value
        for (kind, value), (_, response) in pairwise(conversation)
        if kind in ("command", "invalid") and response["type"] == "error"
    ]

    assert rejected == [value for kind, value in conversation if kind == "invalid"]
    assert refused("Command", sent, tmp_path) == rejected


def ask(
    port: int, method: str, path: str, headers: dict[str, str], body: str = ""
) -> dict[str, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, headers | {"Content-Type": "text/plain"})
        return dict(json.load(connection.getresponse()))


@pytest.mark.xdist_group("download browser")
@pytest.mark.parametrize("name", ["full", "complete"])
def test_the_function_of_the_page_continues_after_lost_connections_and_refusals(
    name: str, request: pytest.FixtureRequest, environment: Environment, node: str, scripts: Path,
    chromium: str, tmp_path: Path,
) -> None:  # fmt: skip
    project: Project = request.getfixturevalue(name)
    page = (project.path / "docs/realtime.md").read_text("utf-8")
    [code] = re.findall(r"^```javascript\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "follow.js").write_text(code, "utf-8")
    arguments, headers = ["news"], {}
    if name == "complete":
        create = ("python", "-m", project.package, "keys", "create", "one", "admin")
        arguments += environment.run(project, *create, folder=tmp_path).stdout.split()
        headers["Authorization"] = f"Bearer {arguments[-1]}"
    with (
        running(project, environment, tmp_path, REALTIME__RETRY="50 ms") as port,
        DroppingLine(port, events=2) as line,
    ):
        path = "/topics/news/events"
        start = ask(port, "GET", f"{path}?poll=0", headers)["last_event_id"]
        texts = [str(number) for number in range(5)]
        published = [[ask(port, "POST", path, headers, text)["id"], text] for text in texts]
        command = [node, str(scripts / "follow_browser.mjs"), chromium, line.url]
        command += [str(tmp_path / "follow.js"), str(len(texts)), start, *arguments]
        found = json.loads(subprocess.check_output(command, timeout=90))

    assert found["events"] == published
    assert line.drops == 2
    assert found["refusals"] >= 3
